"""Pruning in rounds reaches the same target, and measures anew on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from flyweight.compression.prune import prune
from flyweight.compression.prune_gradually import prune_gradually
from flyweight.compression.prune_importance import LabelledBatches
from flyweight.compression.prune_target import Target
from flyweight.core.errors import InputError
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets

Build = Callable[..., Detector]


def test_a_round_is_a_prune(trained: Build) -> None:
    detector = trained("ssdlite", backbone="mobilenet_v1")
    once = prune(detector, Target(share=0.6), multiple=2)
    rounds = prune_gradually(detector, Target(share=0.6), rounds=1, multiple=2)
    assert rounds.detector.config == once.detector.config
    assert (rounds.before, rounds.after) == pytest.approx((once.before, once.after))
    assert rounds.channels == once.channels


def test_importance_is_measured_on_what_is_left(trained: Build) -> None:
    detector = trained("ssdlite", backbone="mobilenet_v1")
    seen: list[int] = []

    def batches(smaller: Detector) -> LabelledBatches:
        seen.append(sum(each.numel() for each in smaller.parameters()))
        images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
        box, label = torch.tensor([[8.0, 8.0, 40.0, 48.0]]), torch.tensor([1])
        return [(images, Targets.from_lists([box], [label]))]

    options: dict[str, Any] = {"importance": "taylor", "multiple": 2}
    done = prune_gradually(detector, Target(share=0.5), rounds=3, batches=batches, **options)
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) == 3
    assert done.before == prune(detector, Target(share=1.0)).before
    assert done.after <= 0.5 * done.before < done.after + done.step
    gone, of = done.channels
    assert 0 < gone < of
    shares = [each["to"] / done.before for each in done.detector.lineage["pruned"]]
    assert shares == pytest.approx([0.5 ** (1 / 3), 0.5 ** (2 / 3), 0.5], abs=0.03)


def test_no_rounds(trained: Build) -> None:
    with pytest.raises(InputError, match="rounds"):
        prune_gradually(trained("ssdlite"), Target(share=0.5), rounds=0)
