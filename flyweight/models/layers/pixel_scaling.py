"""Pixels to the numbers that a network was trained on, inside its graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PixelScaling(nn.Module):
    """`(x / 255 - mean) / std` of each channel, as one multiplication and one addition.

    Its numbers are no weights: they come with the preprocessing and are in no state dict.

    Args:
        mean, std: of R, G, B, where 0 to 255 is 0 to 1.
    """

    _scale: Tensor
    _shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        mean_of, std_of = (torch.tensor(tuple(each)).view(1, 3, 1, 1) for each in (mean, std))
        self.register_buffer("_scale", 1 / (255 * std_of), persistent=False)
        self.register_buffer("_shift", -mean_of / std_of, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images `[B, H, W, 3]`, RGB 0 to 255, to the network's input `[B, 3, H, W]`.

        uint8 or float. The permuted view of NHWC memory is channels-last: nothing is copied.
        """
        return images.permute(0, 3, 1, 2).float() * self._scale + self._shift
