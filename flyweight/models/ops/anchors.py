"""Anchors of dense detectors: boxes of fixed sizes tiled over the cells of feature maps.

SSD calls them default boxes (Liu et al. 2016, section 2.2); Faster R-CNN (Ren et al. 2015,
section 3.1.1), RetinaNet (Lin et al. 2017, section 4) and YOLO (Redmon and Farhadi 2017) anchors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

BoxSizes = tuple[tuple[tuple[float, float], ...], ...]

# A anchors over all levels, L levels


class AnchorGrid(nn.Module):
    """The anchors of a network at one input size.

    Level by level; in a level cell by cell, row-major; in a cell in the order of its sizes. The
    anchors of the cell in row i and column j have their centre at
    `((j + offset) * step_x, (i + offset) * step_y)`.

    Args:
        grids: (rows, columns) of each level's feature map.
        sizes_wh: of each level the (w, h) of its boxes, relative to the input (0 to 1).
        size_hw: height and width of the input, pixels.
        steps: pixels from cell to cell of each level, a number or (y, x); by default such that
            the cells cover the input exactly.
        offset: 0.5 puts centres in the middle of cells, 0 at their top left corner.

    Attributes:
        boxes_xyxy: `[A, 4]` pixels of the input; they may reach beyond its border.
        boxes_cxcywh: `[A, 4]`, the same boxes.
        level_of_anchor: int64 `[A]`.
    """

    boxes_xyxy: Tensor
    boxes_cxcywh: Tensor
    level_of_anchor: Tensor

    def __init__(
        self,
        grids: Sequence[tuple[int, int]],
        sizes_wh: Sequence[Sequence[tuple[float, float]]],
        *,
        size_hw: tuple[int, int],
        steps: Sequence[float | tuple[float, float]] | None = None,
        offset: float = 0.5,
    ) -> None:
        super().__init__()
        if len(grids) != len(sizes_wh):
            raise ValueError(f"{len(grids)} levels, but default boxes for {len(sizes_wh)}")
        if steps is not None and len(steps) != len(grids):
            raise ValueError(f"{len(grids)} levels, but steps for {len(steps)}")
        self.grids = tuple((int(rows), int(columns)) for rows, columns in grids)
        self.sizes_wh: BoxSizes = tuple(
            tuple((float(w), float(h)) for w, h in level) for level in sizes_wh
        )
        self.size_hw = size_hw
        height, width = size_hw
        # Cells across the input, which is not their whole number where steps are given.
        cells: Sequence[tuple[float, float]] = self.grids
        if steps is not None:
            pairs = [step if isinstance(step, tuple) else (step, step) for step in steps]
            cells = [(height / step_y, width / step_x) for step_y, step_x in pairs]
        relative = torch.cat([
            tile_level(grid, sizes, cells=across, offset=offset)
            for grid, sizes, across in zip(self.grids, self.sizes_wh, cells, strict=True)
        ])  # fmt: skip
        centre, half = relative[:, :2], 0.5 * relative[:, 2:]
        input_wh = torch.tensor([width, height], dtype=torch.float64)
        corners = ((centre - half) * input_wh, (centre + half) * input_wh)
        counts = torch.tensor([
            rows * columns * len(sizes)
            for (rows, columns), sizes in zip(self.grids, self.sizes_wh, strict=True)
        ], device="cpu")  # fmt: skip
        levels = torch.arange(len(self.grids), device="cpu").repeat_interleave(counts)
        # Not persistent: the config rebuilds them, a checkpoint holds only what was learnt.
        boxes_xyxy, boxes_cxcywh = torch.cat(corners, dim=1), relative * input_wh.repeat(2)
        self.register_buffer("boxes_xyxy", boxes_xyxy.float(), persistent=False)
        self.register_buffer("boxes_cxcywh", boxes_cxcywh.float(), persistent=False)
        self.register_buffer("level_of_anchor", levels.to(relative.device), persistent=False)

    @property
    def boxes_per_level(self) -> tuple[int, ...]:
        """Boxes in a cell of each level."""
        return tuple(len(sizes) for sizes in self.sizes_wh)

    @property
    def anchors_per_level(self) -> tuple[int, ...]:
        """Anchors of each level, over all its cells."""
        return tuple(
            rows * columns * boxes
            for (rows, columns), boxes in zip(self.grids, self.boxes_per_level, strict=True)
        )

    def inside(self) -> Tensor:
        """bool `[A]`: whether an anchor lies within the input (Faster R-CNN, section 3.1.3)."""
        height, width = self.size_hw
        limit = self.boxes_xyxy.new_tensor([width, height])
        return (self.boxes_xyxy[:, :2] >= 0).all(1) & (self.boxes_xyxy[:, 2:] <= limit).all(1)

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def extra_repr(self) -> str:
        return f"grids={self.grids}, boxes={len(self)}, size_hw={self.size_hw}"


def tile_level(
    grid: tuple[int, int],
    sizes_wh: Sequence[tuple[float, float]],
    *,
    cells: tuple[float, float] | None = None,
    offset: float = 0.5,
) -> Tensor:
    """Boxes `cxcywh [rows * columns * K, 4]` of one level, relative to the input (0 to 1).

    In float64: in float32 anchors that overlap an object equally would do so only nearly, and
    matching by the best overlap would miss those that tie.

    Args:
        grid: rows and columns.
        sizes_wh: K pairs, relative to the input.
        cells: cells down and across the input; by default `grid`.
        offset: of a centre within its cell.
    """
    rows, columns = grid
    down, across = grid if cells is None else cells
    cy, cx = torch.meshgrid(
        (torch.arange(rows, dtype=torch.float64) + offset) / down,
        (torch.arange(columns, dtype=torch.float64) + offset) / across,
        indexing="ij",
    )
    centres = torch.stack((cx.reshape(-1), cy.reshape(-1)), dim=1)
    sizes = torch.tensor(sizes_wh, dtype=torch.float64).reshape(-1, 2)
    return torch.cat(
        (centres.repeat_interleave(len(sizes), dim=0), sizes.repeat(len(centres), 1)), dim=1
    )


def relative_sizes(
    sizes_wh: Sequence[Sequence[tuple[float, float]]], size_hw: tuple[int, int]
) -> BoxSizes:
    """Box sizes in pixels of an input of `size_hw` as shares of it."""
    height, width = size_hw
    return tuple(tuple((w / width, h / height) for w, h in level) for level in sizes_wh)


def pixel_sizes(
    sizes_wh: Sequence[Sequence[tuple[float, float]]], size_hw: tuple[int, int]
) -> BoxSizes:
    """The inverse of `relative_sizes`."""
    height, width = size_hw
    return tuple(tuple((w * width, h * height) for w, h in level) for level in sizes_wh)
