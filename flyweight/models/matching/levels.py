"""Which level of a pyramid an object belongs to: by its size, by IoU, or by the smallest loss.

- By size, the FPN formula: `fpn_level` (`flyweight.models.ops.pyramid_levels`) less its `k_min`
  is the index of each object's level, and `TwoThresholdMatcher` with `level_of_box` lets it meet
  that level's anchors only.
- By IoU: `TwoThresholdMatcher` over the anchors of all levels; the best overlap decides.
- By the smallest loss, FSAF (Zhu et al. 2019, https://arxiv.org/abs/1903.00621, section 3.2):
  `effective_regions` are the cells that answer for an object on each level, `loss_level` picks
  the level where they do it best, `match_regions` gives the cells their objects there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flyweight.models.ops.boxes import box_area
from flyweight.models.ops.pyramid_levels import fpn_level

__all__ = [
    "effective_regions",
    "fpn_level",
    "loss_level",
    "match_regions",
    "mean_in_regions",
    "restrict_to_level",
]

# B images, G object slots of an image, A anchors, L levels, P cells of all levels

EFFECTIVE = 0.2
IGNORING = 0.5


def restrict_to_level(level_of_box: Tensor, level_of_anchor: Tensor) -> Tensor:
    """bool `[B, G, A]`: whether object and anchor are on one level.

    Args:
        level_of_box: int64 `[B, G]`.
        level_of_anchor: int64 `[A]`.
    """
    return level_of_box.unsqueeze(-1) == level_of_anchor


@torch.no_grad()
def loss_level(losses: Tensor, valid: Tensor) -> Tensor:
    """The level of smallest loss of each object (FSAF, equation 3); the finer one of equals.

    Args:
        losses: `[B, G, L]`, the mean loss of an object's effective cells on each level.
        valid: bool `[B, G]`, false where a slot is padding.

    Returns:
        int64 `[B, G]`, 0 to L - 1; -1 where padded.
    """
    return losses.argmin(dim=-1).masked_fill(~valid, -1)


@torch.no_grad()
def effective_regions(
    boxes_xyxy: Tensor,
    valid: Tensor,
    *,
    grids: Sequence[tuple[int, int]],
    strides: Sequence[int],
    scale: float = EFFECTIVE,
) -> Tensor:
    """The cells of each level that the shrunk box touches (FSAF, section 3.1, "Ground-truth").

    Args:
        boxes_xyxy: `[B, G, 4]` pixels, padded.
        valid: bool `[B, G]`.
        grids: (rows, columns) of each level.
        strides: of each level, pixels.
        scale: of the box about its centre: ε_e = 0.2 for the effective region, ε_i = 0.5 for the
            ignoring one.

    Returns:
        bool `[B, G, P]`, cells level by level, row-major. An object within the image has at least
        one cell on each level.
    """
    centre = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2
    half = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0) * scale / 2
    low, high = centre - half, centre + half
    levels = []
    for (rows, columns), stride in zip(grids, strides, strict=True):
        across = _touched(low[..., 0], high[..., 0], columns, stride)
        down = _touched(low[..., 1], high[..., 1], rows, stride)
        levels.append((down.unsqueeze(-1) & across.unsqueeze(-2)).flatten(-2))
    return torch.cat(levels, dim=-1) & valid.unsqueeze(-1)


def _touched(low: Tensor, high: Tensor, cells: int, stride: int) -> Tensor:
    """bool `[B, G, cells]`: from the cell that `low [B, G]` lies in to the one `high` ends in."""
    cell = torch.arange(cells, device=low.device)
    first = torch.floor(low / stride)
    # A box that ends on a cell's edge does not touch the next one, but it has its first.
    last = torch.maximum(torch.ceil(high / stride) - 1, first)
    return (cell >= first.unsqueeze(-1)) & (cell <= last.unsqueeze(-1))


def mean_in_regions(losses: Tensor, regions: Tensor, *, cells_per_level: Sequence[int]) -> Tensor:
    """What `loss_level` chooses by: each object's mean loss on each level, `[B, G, L]`.

    Args:
        losses: `[B, G, P]` of each cell, if it were the object's.
        regions: bool `[B, G, P]`, of `effective_regions`.
        cells_per_level: rows · columns of each level.

    Returns:
        `[B, G, L]`; infinite where an object has no cell.
    """
    counted = torch.where(regions, losses.float(), 0.0)
    sums = torch.stack([each.sum(-1) for each in counted.split(list(cells_per_level), -1)], -1)
    counts = torch.stack([each.sum(-1) for each in regions.split(list(cells_per_level), -1)], -1)
    return torch.where(counts > 0, sums / counts.clamp(min=1), torch.inf)


@torch.no_grad()
def match_regions(
    boxes_xyxy: Tensor,
    valid: Tensor,
    level_of_box: Tensor,
    *,
    grids: Sequence[tuple[int, int]],
    strides: Sequence[int],
    effective: float = EFFECTIVE,
    ignoring: float = IGNORING,
) -> Tensor:
    """The object of each cell of FSAF's anchor-free branch (section 3.1, "Ground-truth").

    A cell in the effective regions of several objects is the smallest one's. Cells in an ignoring
    region, on the object's level and on the two beside it, are neither object nor background.

    Args:
        boxes_xyxy: `[B, G, 4]` pixels, padded.
        valid: bool `[B, G]`.
        level_of_box: int64 `[B, G]`, 0 to L - 1.
        grids: (rows, columns) of each level.
        strides: of each level, pixels.
        effective: ε_e.
        ignoring: ε_i.

    Returns:
        int64 `[B, P]`: the slot of the object, -1 for background, -2 for ignored.
    """
    images, slots = valid.shape
    cells = [rows * columns for rows, columns in grids]
    if slots == 0:
        return valid.new_full((images, sum(cells)), -1, dtype=torch.int64)
    # Filled level by level: repeats given as a tensor would have to be read back to know P.
    cell_level = torch.cat([
        torch.full((count,), level, device=valid.device) for level, count in enumerate(cells)
    ])  # fmt: skip
    away = (level_of_box.unsqueeze(-1) - cell_level).abs()
    core = effective_regions(boxes_xyxy, valid, grids=grids, strides=strides, scale=effective)
    around = effective_regions(boxes_xyxy, valid, grids=grids, strides=strides, scale=ignoring)
    core &= away == 0
    area = box_area(boxes_xyxy).unsqueeze(-1).expand_as(core)
    smallest, slot = area.masked_fill(~core, torch.inf).min(dim=1)
    ignored = (around & (away <= 1)).any(dim=1)
    matches = torch.where(ignored, -2, -1)
    return torch.where(smallest < torch.inf, slot, matches)
