"""Matching by two thresholds, against torchvision's image by image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from flyweight.models.matching import parts
from flyweight.models.matching.two_thresholds import TwoThresholdMatcher
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


def match_image_by_image(
    boxes: Tensor, valid: Tensor, anchors: Tensor, *, positive: float, negative: float, low: bool
) -> Tensor:
    matcher = Matcher(positive, negative, allow_low_quality_matches=low)
    anchors = anchors.expand(len(boxes), *anchors.shape[-2:])
    rows = [
        matcher(box_iou(each[mask], own)) if mask.any() else torch.full((len(own),), -1)
        for each, mask, own in zip(boxes, valid, anchors, strict=True)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("counts", [[1], [3, 0, 7], [0, 0], [30, 1, 12, 0]])
@pytest.mark.parametrize(("positive", "negative"), [(0.7, 0.3), (0.5, 0.4), (0.5, 0.5)])
@pytest.mark.parametrize("low", [True, False])
def test_matches_are_torchvisions(
    seed: int, counts: list[int], positive: float, negative: float, low: bool
) -> None:
    boxes, valid = padded_batch(counts, seed=seed)
    expected = match_image_by_image(
        boxes, valid, ANCHORS, positive=positive, negative=negative, low=low
    )
    matches = TwoThresholdMatcher(positive, negative, low_quality=low)(boxes, valid, ANCHORS)
    assert torch.equal(matches, expected)


@pytest.mark.parametrize("low", [True, False])
def test_each_image_may_have_its_own_boxes_to_match(low: bool) -> None:
    boxes, valid = padded_batch([5, 2, 9], seed=1)
    shift = torch.tensor([0.0, 3.0, -7.0])[:, None, None]
    own = ANCHORS + shift
    expected = match_image_by_image(boxes, valid, own, positive=0.5, negative=0.3, low=low)
    assert torch.equal(TwoThresholdMatcher(0.5, 0.3, low_quality=low)(boxes, valid, own), expected)


def test_all_ties_for_the_best_anchor_are_matched() -> None:
    # An object in the middle of four equal anchors overlaps each of them by a seventh.
    anchors = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16], [8, 8, 16, 16]])
    boxes = torch.tensor([[[4.0, 4, 12, 12]]])
    valid = torch.ones(1, 1, dtype=torch.bool)
    assert TwoThresholdMatcher(0.7, 0.3, low_quality=True)(boxes, valid, anchors).tolist() == [
        [0, 0, 0, 0]
    ]
    assert TwoThresholdMatcher(0.7, 0.3, low_quality=False)(boxes, valid, anchors).tolist() == [
        [-1, -1, -1, -1]
    ]


def test_an_object_that_no_anchor_touches_takes_none() -> None:
    boxes = torch.tensor([[[900.0, 900, 950, 950], [3.0, 3, 3, 3]]])
    valid = torch.ones(1, 2, dtype=torch.bool)
    matches = TwoThresholdMatcher(0.7, 0.3, low_quality=True)(boxes, valid, ANCHORS)
    assert (matches == -1).all()


@pytest.mark.parametrize("each_image", [True, False])
def test_anchors_kept_out_are_ignored_and_nobodys_best(each_image: bool) -> None:
    boxes, valid = padded_batch([4, 0, 11], seed=5)
    inside = ((ANCHORS >= 0) & (ANCHORS <= 160)).all(dim=1)
    assert not inside.all()
    mask = inside.expand(3, -1) if each_image else inside
    matches = TwoThresholdMatcher(0.7, 0.3, low_quality=True)(
        boxes, valid, ANCHORS, anchor_valid=mask
    )
    assert (matches[:, ~inside] == -2).all()
    expected = match_image_by_image(
        boxes, valid, ANCHORS[inside], positive=0.7, negative=0.3, low=True
    )
    assert torch.equal(matches[:, inside], expected)


def test_objects_meet_the_anchors_of_their_level_only() -> None:
    boxes, valid = padded_batch([6, 3], seed=2)
    per_level = (400, 50)
    level_of_anchor = torch.tensor([0] * 400 + [1] * 50)
    level_of_box = torch.randint(0, 2, valid.shape, generator=torch.Generator().manual_seed(0))
    matches = TwoThresholdMatcher(0.5, 0.4, low_quality=True)(
        boxes, valid, ANCHORS, level_of_box=level_of_box, level_of_anchor=level_of_anchor
    )
    for level, (part, anchors) in enumerate(
        zip(matches.split(per_level, 1), ANCHORS.split(per_level), strict=True)
    ):
        alone = TwoThresholdMatcher(0.5, 0.4, low_quality=True)(
            boxes, valid & (level_of_box == level), anchors
        )
        assert torch.equal(part, alone)


def test_a_batch_in_parts_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, valid = padded_batch([5, 0, 9, 2, 1], seed=3)
    mask = torch.rand(5, len(ANCHORS), generator=torch.Generator().manual_seed(1)) < 0.8
    matcher = TwoThresholdMatcher(0.5, 0.3, low_quality=True)
    whole = matcher(boxes, valid, ANCHORS, anchor_valid=mask)
    monkeypatch.setattr(parts, "MAX_PAIRS", 2 * len(ANCHORS) * valid.shape[1])
    assert torch.equal(matcher(boxes, valid, ANCHORS, anchor_valid=mask), whole)


def test_no_slots_at_all() -> None:
    matches = TwoThresholdMatcher(0.5, 0.4, low_quality=True)(
        torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.bool), ANCHORS
    )
    assert matches.shape == (2, len(ANCHORS))
    assert (matches == -1).all()


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.7 is above"):
        TwoThresholdMatcher(0.3, 0.7, low_quality=False)


def test_levels_of_boxes_need_those_of_anchors() -> None:
    boxes, valid = padded_batch([1], seed=0)
    with pytest.raises(ValueError, match="level_of_anchor"):
        TwoThresholdMatcher(0.5, 0.4, low_quality=False)(
            boxes, valid, ANCHORS, level_of_box=torch.zeros(1, 2, dtype=torch.int64)
        )
