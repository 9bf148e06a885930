"""The level of an object in three ways, each on a picture worked by hand."""

from __future__ import annotations

import torch
from torch import Tensor

from flyweight.models.matching.levels import (
    effective_regions,
    fpn_level,
    loss_level,
    match_regions,
    mean_in_regions,
    restrict_to_level,
)
from flyweight.models.matching.two_thresholds import TwoThresholdMatcher

# A picture of 64 x 64 with three levels of 8 x 8, 4 x 4 and 2 x 2 cells.
GRIDS = ((8, 8), (4, 4), (2, 2))
STRIDES = (8, 16, 32)
CELLS = (64, 16, 4)


def picture(*boxes: tuple[float, float, float, float]) -> tuple[Tensor, Tensor]:
    return torch.tensor([boxes]), torch.ones(1, len(boxes), dtype=torch.bool)


def cells_of(region: Tensor) -> list[list[tuple[int, int]]]:
    """Of each level the (row, column) of the cells in `region [P]`."""
    return [
        [(index // columns, index % columns) for index in part.nonzero().flatten().tolist()]
        for part, (_, columns) in zip(region.split(CELLS), GRIDS, strict=True)
    ]


def test_by_size_an_object_meets_its_own_level_only() -> None:
    # Level 2 has anchors of 32 pixels, level 3 of 64; boxes of 112 pixels start level 3.
    anchors = torch.tensor([
        [0.0, 0.0, 32.0, 32.0],  # level 2
        [100.0, 100.0, 132.0, 132.0],
        [0.0, 0.0, 64.0, 64.0],  # level 3
        [100.0, 100.0, 164.0, 164.0],
    ])  # fmt: skip
    level_of_anchor = torch.tensor([2, 2, 3, 3])
    # 60 x 60 is on level 2 (⌊4 + log₂(60/224)⌋ = ⌊2.1⌋), although level 3 fits it better:
    # 0.28 with the first anchor, 0.88 with the third. 130 x 130 is on level 3.
    boxes, valid = picture((0.0, 0.0, 60.0, 60.0), (70.0, 70.0, 200.0, 200.0))
    level = fpn_level(boxes, k_min=2, k_max=3)
    assert level.tolist() == [[2, 3]]
    assert restrict_to_level(level, level_of_anchor).tolist() == [
        [[True, True, False, False], [False, False, True, True]]
    ]
    matcher = TwoThresholdMatcher(0.5, 0.4, low_quality=True)
    by_size = matcher(boxes, valid, anchors, level_of_box=level, level_of_anchor=level_of_anchor)
    assert by_size.tolist() == [[0, -1, -1, 1]]


def test_by_iou_the_best_overlap_decides() -> None:
    anchors = torch.tensor([
        [0.0, 0.0, 32.0, 32.0],
        [100.0, 100.0, 132.0, 132.0],
        [0.0, 0.0, 64.0, 64.0],
        [100.0, 100.0, 164.0, 164.0],
    ])  # fmt: skip
    boxes, valid = picture((0.0, 0.0, 60.0, 60.0), (70.0, 70.0, 200.0, 200.0))
    # IoU of the first with its anchors: 1024/3600 = 0.28 and 3600/4096 = 0.88; of the second
    # 1024/16900 = 0.06 and 4096/16900 = 0.24, its best.
    matcher = TwoThresholdMatcher(0.5, 0.4, low_quality=True)
    assert matcher(boxes, valid, anchors).tolist() == [[-1, -1, 0, 1]]


def test_effective_and_ignoring_regions() -> None:
    # 48 x 32 about (32, 32). A fifth of it: 27.2 to 36.8 across, 28.8 to 35.2 down.
    boxes, valid = picture((8.0, 16.0, 56.0, 48.0))
    effective = effective_regions(boxes, valid, grids=GRIDS, strides=STRIDES, scale=0.2)
    assert cells_of(effective[0, 0]) == [
        [(3, 3), (3, 4), (4, 3), (4, 4)],
        [(1, 1), (1, 2), (2, 1), (2, 2)],
        [(0, 0), (0, 1), (1, 0), (1, 1)],
    ]
    # A half of it: 20 to 44 across, 24 to 40 down; 40 is where the sixth row would start.
    ignoring = effective_regions(boxes, valid, grids=GRIDS, strides=STRIDES, scale=0.5)
    assert cells_of(ignoring[0, 0])[0] == [(r, c) for r in (3, 4) for c in (2, 3, 4, 5)]
    assert cells_of(ignoring[0, 0])[1] == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_the_smallest_object_has_a_cell_on_every_level_and_padding_none() -> None:
    boxes, _ = picture((20.0, 43.0, 20.5, 43.5), (16.0, 16.0, 16.0, 16.0), (0.0, 0.0, 64.0, 64.0))
    valid = torch.tensor([[True, True, False]])
    regions = effective_regions(boxes, valid, grids=GRIDS, strides=STRIDES)
    assert cells_of(regions[0, 0]) == [[(5, 2)], [(2, 1)], [(1, 0)]]
    assert cells_of(regions[0, 1]) == [[(2, 2)], [(1, 1)], [(0, 0)]]
    assert not regions[0, 2].any()


def test_by_loss_the_level_that_does_best() -> None:
    losses = torch.tensor([[[3.0, 1.0, 2.0], [0.5, 0.5, 0.7], [9.0, 8.0, 7.0], [0.0, 0.0, 0.0]]])
    valid = torch.tensor([[True, True, True, False]])
    assert loss_level(losses, valid).tolist() == [[1, 0, 2, -1]]


def test_mean_losses_of_the_regions() -> None:
    # One object with two cells on the first level, one on the second and none on the third.
    regions = torch.tensor([[[True, True, False, False, True, False]]])
    losses = torch.tensor([[[1.0, 4.0, 100.0, 100.0, 2.0, 100.0]]])
    means = mean_in_regions(losses, regions, cells_per_level=(3, 2, 1))
    assert means.tolist() == [[[2.5, 2.0, torch.inf]]]


def test_cells_of_the_anchor_free_branch() -> None:
    # The first object on the finest level as above; a second one, smaller, on the same level in
    # its middle: 24 x 24 about (36, 36), of which a fifth reaches 33.6 to 38.4, a half 30 to 42.
    boxes, valid = picture((8.0, 16.0, 56.0, 48.0), (24.0, 24.0, 48.0, 48.0))
    matches = match_regions(boxes, valid, torch.tensor([[0, 0]]), grids=GRIDS, strides=STRIDES)
    # fmt: off
    assert matches[0, :64].view(8, 8).tolist() == [
        [-1, -1, -1, -1, -1, -1, -1, -1],
        [-1, -1, -1, -1, -1, -1, -1, -1],
        [-1, -1, -1, -1, -1, -1, -1, -1],
        [-1, -1, -2,  0,  0, -2, -1, -1],
        [-1, -1, -2,  0,  1, -2, -1, -1],
        [-1, -1, -1, -2, -2, -2, -1, -1],
        [-1, -1, -1, -1, -1, -1, -1, -1],
        [-1, -1, -1, -1, -1, -1, -1, -1],
    ]
    # The level beside it is ignored where the halves lie, the one after that is background.
    assert matches[0, 64:80].view(4, 4).tolist() == [
        [-1, -1, -1, -1],
        [-1, -2, -2, -1],
        [-1, -2, -2, -1],
        [-1, -1, -1, -1],
    ]
    # fmt: on
    assert matches[0, 80:].tolist() == [-1, -1, -1, -1]


def test_objects_on_two_levels_do_not_disturb_each_other() -> None:
    boxes, valid = picture((8.0, 16.0, 56.0, 48.0), (1.0, 1.0, 7.0, 7.0))
    matches = match_regions(boxes, valid, torch.tensor([[2, 0]]), grids=GRIDS, strides=STRIDES)[0]
    assert cells_of(matches == 1) == [[(0, 0)], [], []]
    assert cells_of(matches == 0) == [[], [], [(0, 0), (0, 1), (1, 0), (1, 1)]]
    # Level 1 is beside both; level 0 is not beside the first, whose halves it does not ignore.
    assert cells_of(matches == -2) == [[], [(0, 0), (1, 1), (1, 2), (2, 1), (2, 2)], []]


def test_no_objects() -> None:
    matches = match_regions(
        torch.zeros(2, 0, 4),
        torch.zeros(2, 0, dtype=torch.bool),
        torch.zeros(2, 0, dtype=torch.int64),
        grids=GRIDS,
        strides=STRIDES,
    )
    assert matches.shape == (2, 84)
    assert (matches == -1).all()
