"""YOLO's matching, by hand and against plain loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from flyweight.models.matching import parts
from flyweight.models.matching.yolo import YOLOMatcher, ignore_by_iou, size_iou

SIZES = [[(10.0, 13.0), (16.0, 30.0), (33.0, 23.0)], [(30.0, 61.0), (62.0, 45.0)], [(116.0, 90.0)]]
GRIDS = [(12, 16), (6, 8), (3, 4)]
STRIDES = [8, 16, 32]
SIZE_HW = (96, 128)


def padded_batch(counts: list[int], *, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    slots = max(counts) + 1
    limit = torch.tensor([128.0, 96.0])
    centre = torch.rand(len(counts), slots, 2, generator=generator) * limit
    size = 8 + torch.rand(len(counts), slots, 2, generator=generator) * 90
    boxes = torch.cat((centre - size / 2, centre + size / 2), dim=-1)
    return boxes, torch.arange(slots) < torch.tensor(counts)[:, None]


def restated(boxes: Tensor, threshold: float | None) -> list[int]:
    """Darknet's loop for the objects `[G, 4]` of one image: the object of each anchor."""
    matches = [-1] * sum(
        rows * columns * len(sizes) for (rows, columns), sizes in zip(GRIDS, SIZES, strict=True)
    )
    for slot, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        w, h, x, y = x2 - x1, y2 - y1, (x1 + x2) / 2, (y1 + y2) / 2
        fits, start = [], 0
        for (rows, columns), sizes, stride in zip(GRIDS, SIZES, STRIDES, strict=True):
            cell = int(y // stride) * columns + int(x // stride)
            for index, (aw, ah) in enumerate(sizes):
                common = min(w, aw) * min(h, ah)
                fit = common / (w * h + aw * ah - common)
                fits.append((fit, start + cell * len(sizes) + index))
            start += rows * columns * len(sizes)
        best = max(fits)[1]
        for fit, anchor in fits:
            if anchor == best or (threshold is not None and fit > threshold):
                matches[anchor] = slot
    return matches


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [None, 0.213, 0.5])
def test_matches_are_the_loops(seed: int, threshold: float | None) -> None:
    boxes, valid = padded_batch([6, 0, 1, 25], seed=seed)
    matches = YOLOMatcher(SIZES, GRIDS, STRIDES, iou_threshold=threshold)(boxes, valid)
    expected = [restated(each[mask], threshold) for each, mask in zip(boxes, valid, strict=True)]
    assert matches.tolist() == expected


def test_hand_worked() -> None:
    # 30 x 60 about (50, 40) is nearly the first size of level 1: cell (2, 3) of 6 x 8, so anchor
    # 12·16·3 + (2·8 + 3)·2 = 614.
    box = torch.tensor([[[35.0, 10.0, 65.0, 70.0]]])
    matches = YOLOMatcher(SIZES, GRIDS, STRIDES)(box, torch.tensor([[True]]))
    assert (matches[0] == 0).nonzero().flatten().tolist() == [614]


def test_the_later_object_has_a_contested_anchor() -> None:
    boxes = torch.tensor([[[35.0, 10.0, 65.0, 70.0], [34.0, 11.0, 64.0, 71.0]]])
    matches = YOLOMatcher(SIZES, GRIDS, STRIDES)(boxes, torch.tensor([[True, True]]))
    assert matches[0, 614] == 1
    assert (matches == 0).sum() == 0


def test_centres_on_the_far_border_are_in_the_last_cell() -> None:
    boxes = torch.tensor([[[123.0, 90.0, 133.0, 102.0]]])  # centre (128, 96), the corner
    matches = YOLOMatcher(SIZES, GRIDS, STRIDES)(boxes, torch.tensor([[True]]))
    assert (matches[0] == 0).nonzero().flatten().tolist() == [(12 * 16 - 1) * 3]


def test_no_slots_at_all() -> None:
    none = torch.zeros(2, 0, dtype=torch.bool)
    matches = YOLOMatcher(SIZES, GRIDS, STRIDES, iou_threshold=0.2)(torch.zeros(2, 0, 4), none)
    assert matches.shape == (2, 12 * 16 * 3 + 6 * 8 * 2 + 12)
    assert (matches == -1).all()


def test_size_iou_is_the_iou_about_one_centre() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(20, 2, generator=generator), torch.rand(7, 2, generator=generator)
    expected = box_iou(torch.cat((-a, a), 1), torch.cat((-b, b), 1))
    torch.testing.assert_close(size_iou(a, b), expected)
    assert size_iou(torch.zeros(1, 2), torch.zeros(1, 2)).item() == 0


def test_predictions_near_an_object_are_not_background(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, valid = padded_batch([3, 0, 8], seed=1)
    predicted, _ = padded_batch([60, 60, 60], seed=2)
    ignored = ignore_by_iou(predicted, boxes, valid, threshold=0.4)
    for row, own, each, mask in zip(ignored, predicted, boxes, valid, strict=True):
        overlap = box_iou(own, each[mask])
        expected = (overlap > 0.4).any(dim=1)
        assert torch.equal(row, expected)
    assert ignored.any()
    monkeypatch.setattr(parts, "MAX_PAIRS", 1)
    assert torch.equal(ignore_by_iou(predicted, boxes, valid, threshold=0.4), ignored)
    none = torch.zeros(3, 0, dtype=torch.bool)
    assert not ignore_by_iou(predicted, torch.zeros(3, 0, 4), none, threshold=0.4).any()
