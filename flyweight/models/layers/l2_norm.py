"""L2 normalisation with a learned scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# as in `functional.normalize`, where all channels are 0
EPS = 1e-12


class L2Norm(nn.Module):
    """Divide each pixel's channels by their length, then scale every channel.

    ParseNet, https://arxiv.org/abs/1506.04579, section 3.2; SSD (https://arxiv.org/abs/1512.02325,
    section 3.1) brings conv4_3, whose values are larger than those of deeper maps, to a length of
    20 with it.

    With C channels and H·W pixels: C parameters, no MACs (about 3·C·H·W element-wise operations).
    """

    def __init__(self, channels: int, *, scale: float = 20.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        # `functional.normalize` exports as one operator more
        length = x.norm(dim=1, keepdim=True).clamp_min(EPS)
        return self.scale.view(1, -1, 1, 1) * (x / length)
