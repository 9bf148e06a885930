"""ATSS against algorithm 1 of the paper, object by object."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from flyweight.models.matching import parts
from flyweight.models.matching.atss import ATSSMatcher
from flyweight.models.ops.anchors import AnchorGrid

GRID = AnchorGrid(
    [(20, 20), (10, 10), (5, 5), (2, 2)],
    [[(0.2, 0.2)], [(0.4, 0.4)], [(0.8, 0.8)], [(1.6, 1.6)]],
    size_hw=(160, 160),
)
PER_LEVEL = (400, 100, 25, 4)


def padded_batch(counts: list[int], *, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    slots = max(counts) + 1
    corner = torch.rand(len(counts), slots, 2, generator=generator) * 100
    size = 4 + torch.rand(len(counts), slots, 2, generator=generator) * 80
    valid = torch.arange(slots) < torch.tensor(counts)[:, None]
    return torch.cat((corner, corner + size), dim=-1), valid


def restated(boxes: Tensor, anchors: Tensor, k: int) -> list[int]:
    """Algorithm 1 for the objects `[G, 4]` of one image: the object of each anchor."""
    matches, best = [-1] * len(anchors), [0.0] * len(anchors)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    for slot, box in enumerate(boxes):
        candidates: list[int] = []
        start = 0
        for count in PER_LEVEL:
            distance = (centres[start : start + count] - (box[:2] + box[2:]) / 2).norm(dim=1)
            candidates += (distance.argsort()[:k] + start).tolist()
            start += count
        overlap = box_iou(box[None], anchors[candidates])[0]
        threshold = overlap.mean() + overlap.std()
        for anchor, value in zip(candidates, overlap.tolist(), strict=True):
            x, y = centres[anchor].tolist()
            inside = box[0] < x < box[2] and box[1] < y < box[3]
            if value >= threshold and inside and value > best[anchor]:
                matches[anchor], best[anchor] = slot, value
    return matches


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [9, 3])
def test_matches_are_algorithm_1(seed: int, k: int) -> None:
    boxes, valid = padded_batch([4, 0, 12], seed=seed)
    matches = ATSSMatcher(k)(boxes, valid, GRID.boxes_xyxy, anchors_per_level=PER_LEVEL)
    expected = [
        restated(each[mask], GRID.boxes_xyxy, k) for each, mask in zip(boxes, valid, strict=True)
    ]
    assert matches.tolist() == expected
    assert (matches >= 0).any()


def test_a_batch_in_parts_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, valid = padded_batch([5, 0, 9, 2, 1], seed=3)
    whole = ATSSMatcher()(boxes, valid, GRID.boxes_xyxy, anchors_per_level=PER_LEVEL)
    monkeypatch.setattr(parts, "MAX_PAIRS", 2 * len(GRID) * valid.shape[1])
    split = ATSSMatcher()(boxes, valid, GRID.boxes_xyxy, anchors_per_level=PER_LEVEL)
    assert torch.equal(split, whole)


def test_no_slots_at_all() -> None:
    none = torch.zeros(2, 0, dtype=torch.bool)
    matches = ATSSMatcher()(
        torch.zeros(2, 0, 4), none, GRID.boxes_xyxy, anchors_per_level=PER_LEVEL
    )
    assert matches.shape == (2, len(GRID))
    assert (matches == -1).all()


def test_levels_must_hold_all_anchors() -> None:
    boxes, valid = padded_batch([1], seed=0)
    with pytest.raises(ValueError, match="529 anchors"):
        ATSSMatcher()(boxes, valid, GRID.boxes_xyxy, anchors_per_level=(400, 100))
