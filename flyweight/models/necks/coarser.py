"""Levels of a pyramid beyond the backbone's coarsest."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

Source = Literal["P5", "C5", "pool"]


class CoarserLevels(nn.Module):
    """P6, P7, ... after the last level of a pyramid.

    RetinaNet (https://arxiv.org/abs/1708.02002, section 4 footnote 2): P6 is a 3×3/2 convolution
    of C5 (as published) or P5 (as in torchvision's weights), each further level a 3×3/2
    convolution of the ReLU of the one before. Feature Pyramid Networks
    (https://arxiv.org/abs/1612.03144, section 4.1): P6 is P5 subsampled, without parameters.

    With n levels of C channels and H·W cells of the last: parameters 9·C_in·C + C + (n-1)(9·C² + C)
    and 9·C_in·C·⌈H/2⌉·⌈W/2⌉ + ... MACs; none where they are subsampled.

    Args:
        count: of the levels.
        channels: of each of them.
        source: what the first is made of.
        source_channels: of P5 or C5.
    """

    def __init__(self, count: int, *, channels: int, source: Source, source_channels: int) -> None:
        super().__init__()
        self.count = count
        self.source = source
        self.convs = nn.ModuleList()
        if source != "pool":
            for index in range(count):
                before = channels if index else source_channels
                self.convs.append(nn.Conv2d(before, channels, 3, stride=2, padding=1))

    def forward(self, last: Tensor, c5: Tensor) -> list[Tensor]:
        """The further levels, from the pyramid's last and the backbone's, `[B, C, H, W]` both."""
        levels: list[Tensor] = []
        x = c5 if self.source == "C5" else last
        for index in range(self.count):
            if self.source == "pool":
                x = x[:, :, ::2, ::2]
            else:
                x = self.convs[index](functional.relu(x) if index else x)
            levels.append(x)
        return levels
