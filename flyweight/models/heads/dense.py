"""The dense head of single-shot detectors: one predictor a level, one row an anchor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

# B images, A anchors over all levels, K boxes in a cell, D columns an anchor (4, or classes)


class DenseHead(nn.Module):
    """Runs a predictor on each level and lays the outputs out by anchor.

    Args:
        predictors: one a level, `[B, C, H, W]` -> `[B, K * D, H, W]`.
        columns: D.
    """

    def __init__(self, predictors: Iterable[nn.Module], *, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.levels = nn.ModuleList(predictors)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """`[B, A, D]`: levels in order, cells row-major, boxes of a cell innermost."""
        rows = [
            by_anchor(predictor(feature), self.columns)
            for predictor, feature in zip(self.levels, features, strict=True)
        ]
        return torch.cat(rows, dim=1)


def by_anchor(output: Tensor, columns: int) -> Tensor:
    """`[B, K * D, H, W]` to `[B, H * W * K, D]`; a view where the memory is channels-last."""
    # A channel is k * D + d, so that the channels of a cell are already K rows of D.
    return output.permute(0, 2, 3, 1).unflatten(3, (-1, columns)).flatten(1, 3)
