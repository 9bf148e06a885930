"""The cells of a pyramid as points that boxes are measured from, without anchors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# P cells of all levels, level by level, row-major

# FSAF, https://arxiv.org/abs/1903.00621, section 3.1 "Box regression output": distances are
# divided by four cells.
NORMALISER = 4.0


class CellGrid(nn.Module):
    """Centres of all cells, and what a unit of distance is in each.

    Args:
        grids: (rows, columns) of each level.
        strides: of each level, pixels.

    Attributes:
        centre: `[P, 2]`, x and y in pixels of the input.
        unit: `[P, 1]` pixels, four strides.
    """

    centre: Tensor
    unit: Tensor

    def __init__(self, grids: Sequence[tuple[int, int]], strides: Sequence[int]) -> None:
        super().__init__()
        self.grids = tuple((int(rows), int(columns)) for rows, columns in grids)
        self.strides = tuple(int(stride) for stride in strides)
        centres, units = [], []
        for (rows, columns), stride in zip(self.grids, self.strides, strict=True):
            y, x = torch.meshgrid(
                (torch.arange(rows) + 0.5) * stride,
                (torch.arange(columns) + 0.5) * stride,
                indexing="ij",
            )
            centres.append(torch.stack((x.reshape(-1), y.reshape(-1)), dim=1))
            units.append(torch.full((rows * columns, 1), NORMALISER * stride))
        self.register_buffer("centre", torch.cat(centres), persistent=False)
        self.register_buffer("unit", torch.cat(units), persistent=False)

    def squares(self) -> Tensor:
        """The cells themselves, `xyxy [P, 4]` pixels."""
        half = self.unit / (2 * NORMALISER)
        return torch.cat((self.centre - half, self.centre + half), dim=-1)

    def decode(self, distances: Tensor) -> Tensor:
        """Boxes `xyxy [..., P, 4]` in pixels from `distances [..., P, 4]`: left, top, right, bottom
        of the cell's centre, in units of four cells."""
        away = distances * self.unit
        return torch.cat((self.centre - away[..., :2], self.centre + away[..., 2:]), dim=-1)
