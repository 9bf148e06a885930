"""Channel shuffle and channel split."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelShuffle(nn.Module):
    """Interleave `groups` groups of channels, so that the next grouped layer sees all of them.

    ShuffleNet, https://arxiv.org/abs/1707.01083, section 3.1 and figure 1: channel k of group g
    goes to place k·groups + g. No parameters, no MACs: one read and one write of C·H·W values.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]; `groups` must divide C."""
        # torch's own, because view, transpose and reshape lose the channels_last layout.
        return torch.channel_shuffle(x, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class ChannelSplit(nn.Module):
    """The two halves of the channels, as views: no parameters, no MACs, no memory.

    ShuffleNetV2, https://arxiv.org/abs/1807.11164, section 3.2 and figure 3c.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, H, W] -> two of [B, C / 2, H, W]; C must be even."""
        first, second = x.chunk(2, dim=1)
        return first, second
