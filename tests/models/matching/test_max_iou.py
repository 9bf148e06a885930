"""SSD matching over a batch, against torchvision's image by image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou

from flyweight.models.matching import parts
from flyweight.models.matching.max_iou import MaxIoUMatcher
from flyweight.models.ops.anchors import AnchorGrid

SIZES = [(0.1, 0.1), (0.2, 0.1), (0.1, 0.2), (0.35, 0.35)]
ANCHORS = AnchorGrid([(10, 10), (5, 5)], [SIZES, SIZES[2:]], size_hw=(160, 160)).boxes_xyxy


def padded_batch(counts: list[int], *, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    slots = max(counts) + 1
    corner = torch.rand(len(counts), slots, 2, generator=generator) * 110
    size = 4 + torch.rand(len(counts), slots, 2, generator=generator) * 60
    valid = torch.arange(slots) < torch.tensor(counts)[:, None]
    # Padding holds arbitrary boxes here: the mask alone must decide.
    return torch.cat((corner, corner + size), dim=-1), valid


def match_image_by_image(boxes: Tensor, valid: Tensor, threshold: float) -> Tensor:
    rows = [
        SSDMatcher(threshold)(box_iou(each[mask], ANCHORS))
        if mask.any()
        else torch.full((len(ANCHORS),), -1)
        for each, mask in zip(boxes, valid, strict=True)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("counts", [[1], [3, 0, 7], [0, 0], [30, 1, 12, 0]])
@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_matches_are_torchvisions(seed: int, counts: list[int], threshold: float) -> None:
    boxes, valid = padded_batch(counts, seed=seed)
    matches = MaxIoUMatcher(threshold)(boxes, valid, ANCHORS)
    assert torch.equal(matches, match_image_by_image(boxes, valid, threshold))


def test_ties_and_shared_best_anchors_are_torchvisions() -> None:
    # Twice the same object, one exactly an anchor, one tiny within the same cell.
    boxes = torch.stack(
        [ANCHORS[40], ANCHORS[40], torch.tensor([20.0, 20, 60, 60]), torch.tensor([3.0, 3, 5, 5])]
    )[None]
    valid = torch.ones(1, 4, dtype=torch.bool)
    matches = MaxIoUMatcher(0.5)(boxes, valid, ANCHORS)
    assert torch.equal(matches, match_image_by_image(boxes, valid, 0.5))
    assert matches[0, 40] == 1  # the later of the two


def test_every_object_that_shares_no_best_anchor_is_matched() -> None:
    boxes, valid = padded_batch([6, 2], seed=9)
    matches = MaxIoUMatcher(0.99)(boxes, valid, ANCHORS)
    for each, mask, row in zip(boxes, valid, matches, strict=True):
        best = box_iou(each[mask], ANCHORS).argmax(dim=1)
        assert len((row >= 0).nonzero()) == len(best.unique())


def test_a_batch_in_parts_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, valid = padded_batch([5, 0, 9, 2, 1], seed=3)
    whole = MaxIoUMatcher()(boxes, valid, ANCHORS)
    monkeypatch.setattr(parts, "MAX_PAIRS", 2 * len(ANCHORS) * valid.shape[1])
    assert torch.equal(MaxIoUMatcher()(boxes, valid, ANCHORS), whole)


def test_no_slots_at_all() -> None:
    matches = MaxIoUMatcher()(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.bool), ANCHORS)
    assert matches.shape == (2, len(ANCHORS))
    assert (matches == -1).all()
