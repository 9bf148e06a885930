"""Default boxes: the anchors of SSD (Liu et al. 2016, section 2.2, equation 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

BoxSizes = tuple[tuple[tuple[float, float], ...], ...]

# A anchors over all levels


class DefaultBoxes(nn.Module):
    """Boxes of fixed sizes, tiled over the cells of each level.

    Level by level; in a level cell by cell, row-major; in a cell in the order of its sizes.

    Args:
        grids: (rows, columns) of each level's feature map.
        sizes_wh: of each level the (w, h) of its boxes, relative to the input (0 to 1).
        size_hw: height and width of the input, pixels.

    Attributes:
        boxes_xyxy: `[A, 4]` pixels of the input; they may reach beyond its border.
        boxes_cxcywh: `[A, 4]`, the same boxes.
    """

    boxes_xyxy: Tensor
    boxes_cxcywh: Tensor

    def __init__(
        self,
        grids: Sequence[tuple[int, int]],
        sizes_wh: Sequence[Sequence[tuple[float, float]]],
        *,
        size_hw: tuple[int, int],
    ) -> None:
        super().__init__()
        if len(grids) != len(sizes_wh):
            raise ValueError(f"{len(grids)} levels, but default boxes for {len(sizes_wh)}")
        self.grids = tuple((int(rows), int(columns)) for rows, columns in grids)
        self.sizes_wh: BoxSizes = tuple(
            tuple((float(w), float(h)) for w, h in level) for level in sizes_wh
        )
        self.size_hw = size_hw
        relative = torch.cat([
            tile_level(grid, sizes)
            for grid, sizes in zip(self.grids, self.sizes_wh, strict=True)
        ])  # fmt: skip
        height, width = size_hw
        centre, half = relative[:, :2], 0.5 * relative[:, 2:]
        input_wh = torch.tensor([width, height])
        corners = ((centre - half) * input_wh, (centre + half) * input_wh)
        # Not persistent: the config rebuilds them, a checkpoint holds only what was learnt.
        self.register_buffer("boxes_xyxy", torch.cat(corners, dim=1), persistent=False)
        self.register_buffer("boxes_cxcywh", relative * input_wh.repeat(2), persistent=False)

    @property
    def boxes_per_level(self) -> tuple[int, ...]:
        """Boxes in a cell of each level."""
        return tuple(len(sizes) for sizes in self.sizes_wh)

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def extra_repr(self) -> str:
        return f"grids={self.grids}, boxes={len(self)}, size_hw={self.size_hw}"


def tile_level(grid: tuple[int, int], sizes_wh: Sequence[tuple[float, float]]) -> Tensor:
    """Boxes `cxcywh [rows * columns * K, 4]` of one level, relative to the input (0 to 1).

    Args:
        grid: rows and columns.
        sizes_wh: K pairs, relative to the input.
    """
    rows, columns = grid
    cy, cx = torch.meshgrid(
        (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij"
    )
    centres = torch.stack((cx.reshape(-1), cy.reshape(-1)), dim=1)
    sizes = torch.tensor(sizes_wh, dtype=torch.float32).reshape(-1, 2)
    return torch.cat(
        (centres.repeat_interleave(len(sizes), dim=0), sizes.repeat(len(centres), 1)), dim=1
    )
