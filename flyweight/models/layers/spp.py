"""Spatial pyramid pooling, as YOLO detectors use it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SPP(nn.Module):
    """Max poolings of several sizes at stride 1, concatenated with the input.

    YOLOv4, https://arxiv.org/abs/2004.10934, section 3.4, and `yolov4.cfg`: sizes 5, 9 and 13,
    the largest first and the input last. It widens the receptive field at once; the idea of
    pooling at several sizes is of https://arxiv.org/abs/1406.4729.

    No parameters and no MACs; with n sizes, (n + 1)·C channels, and at most (Σ k²)·C·H·W
    comparisons.
    """

    def __init__(self, kernel_sizes: Sequence[int] = (13, 9, 5)) -> None:
        super().__init__()
        self.pools = nn.ModuleList(
            nn.MaxPool2d(size, stride=1, padding=size // 2) for size in kernel_sizes
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, (n + 1)·C, H, W]."""
        return torch.cat([*(pool(x) for pool in self.pools), x], dim=1)
