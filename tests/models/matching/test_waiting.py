"""A GPU is never waited for: tensors without data go through, so that no value can be read back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from flyweight.models.matching.atss import ATSSMatcher
from flyweight.models.matching.levels import fpn_level, loss_level, match_regions
from flyweight.models.matching.max_iou import MaxIoUMatcher
from flyweight.models.matching.samplers import hardest, sample_balanced
from flyweight.models.matching.two_thresholds import TwoThresholdMatcher
from flyweight.models.matching.yolo import YOLOMatcher, ignore_by_iou

GRIDS, STRIDES = ((8, 8), (4, 4)), (8, 16)
BOXES = torch.zeros(3, 5, 4, device="meta")
VALID = torch.ones(3, 5, dtype=torch.bool, device="meta")
ANCHORS = torch.zeros(80, 4, device="meta")
LEVELS = torch.zeros(80, dtype=torch.int64, device="meta")
MASK = torch.ones(3, 80, dtype=torch.bool, device="meta")


def two_thresholds() -> Tensor:
    level = fpn_level(BOXES, k_min=3, k_max=4) - 3
    return TwoThresholdMatcher(0.5, 0.4, low_quality=True)(
        BOXES,
        VALID,
        ANCHORS,
        anchor_valid=MASK,
        level_of_box=level,
        level_of_anchor=LEVELS,
    )


def smallest_loss() -> Tensor:
    level = loss_level(torch.zeros(3, 5, 2, device="meta"), VALID)
    return match_regions(BOXES, VALID, level, grids=GRIDS, strides=STRIDES)


CASES: dict[str, Callable[[], Tensor]] = {
    "max-iou": lambda: MaxIoUMatcher()(BOXES, VALID, ANCHORS),
    "two-thresholds": two_thresholds,
    "smallest-loss": smallest_loss,
    "atss": lambda: ATSSMatcher()(BOXES, VALID, ANCHORS, anchors_per_level=(64, 16)),
    "yolo": lambda: YOLOMatcher([[(9.0, 9.0)], [(30.0, 20.0)]], GRIDS, STRIDES, iou_threshold=0.2)(
        BOXES, VALID
    ),
    "ignore": lambda: ignore_by_iou(ANCHORS.expand(3, -1, -1), BOXES, VALID, threshold=0.5),
    "balanced": lambda: sample_balanced(MASK, ~MASK, count=20, positive_share=0.5)[1],
    "hardest": lambda: hardest(torch.zeros(3, 80, device="meta"), MASK, count=9),
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_read_back(name: str) -> None:
    matches = CASES[name]()
    assert matches.device.type == "meta"
    assert matches.shape == (3, 80)
