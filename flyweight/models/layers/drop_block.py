"""DropBlock regularisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class DropBlock(nn.Module):
    """Zero square blocks of a feature map in training, and scale up the rest; identity otherwise.

    DropBlock, https://arxiv.org/abs/1810.12890, algorithm 1: neighbouring values say the same, so
    dropping single ones takes no information away. Blocks are drawn for each channel by itself,
    with equation 1's rate of centres, such that about `probability` of the values fall. The
    paper's linear schedule (section 3) starts at 0 and ends at `final_probability`: call
    `set_progress` as training goes on.

    No parameters and no MACs; in training about (b² + 3)·C·H·W operations for block size b.
    """

    def __init__(self, final_probability: float = 0.1, *, block_size: int = 7) -> None:
        super().__init__()
        self.final_probability = final_probability
        self.block_size = block_size
        self.probability = 0.0

    def set_progress(self, progress: float) -> None:
        """Set the probability for a training that is `progress` done, from 0 to 1."""
        self.probability = self.final_probability * min(max(progress, 0.0), 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        if not self.training or self.probability == 0.0:
            return x
        batch, channels, height, width = x.shape
        size = min(self.block_size, height, width)
        valid = (height - size + 1) * (width - size + 1)
        gamma = min(self.probability * height * width / (size**2 * valid), 1.0)
        corners = torch.empty(
            (batch, channels, height - size + 1, width - size + 1), dtype=x.dtype, device=x.device
        ).bernoulli_(gamma)
        # Every corner grows into a block: a max pooling over all positions that reach it.
        dropped = functional.max_pool2d(
            functional.pad(corners, [size - 1] * 4), kernel_size=size, stride=1
        )
        kept = 1 - dropped
        return x * kept * (kept.numel() / kept.sum().clamp(min=1.0))

    def extra_repr(self) -> str:
        return f"{self.final_probability}, block_size={self.block_size}"
