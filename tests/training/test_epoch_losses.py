"""Sums by name and totals by step, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from flyweight.training.epoch_losses import EpochLosses, StepLoss


def losses(box: float, label: float) -> dict[str, torch.Tensor]:
    return {"box": torch.tensor(box), "class": torch.tensor(label)}


def test_means_and_looks() -> None:
    epoch = EpochLosses()
    assert epoch.look() == []
    epoch.add(losses(1.0, 2.0), losses(1.5, 2.5))
    epoch.add(losses(3.0, 5.0), losses(0.0, math.inf))
    assert epoch.means() == {"box": 2.0, "class": 3.5}
    assert epoch.look() == [StepLoss(mean=3.0, own=4.0), StepLoss(mean=8.0, own=math.inf)]
    # each step is looked at once
    assert epoch.look() == []
    epoch.add(losses(5.0, 2.0), losses(5.0, 2.0))
    assert epoch.look() == [StepLoss(mean=7.0, own=7.0)]
    assert epoch.steps == 3


def test_a_resumed_epoch_goes_on() -> None:
    first = EpochLosses()
    first.add(losses(1.0, 2.0), losses(1.0, 2.0))
    rest = EpochLosses(first.sums, steps=first.steps)
    rest.add(losses(3.0, 5.0), losses(3.0, 5.0))
    assert rest.means() == {"box": 2.0, "class": 3.5}
    # the state that was saved is not changed by what follows
    assert float(first.sums["box"]) == pytest.approx(1.0)
