"""The residual block of Darknet-53."""

from __future__ import annotations

from torch import Tensor, nn

from flyweight.models.layers.activations import ActFactory, leaky_relu
from flyweight.models.layers.conv import ConvNormAct, NormFactory


class DarknetResidual(nn.Module):
    """1×1 to M channels, 3×3 back to C, and the shortcut; no activation after the sum.

    YOLOv3, https://arxiv.org/abs/1804.02767, table 1; also inside the stages of CSPDarknet-53.

    With H·W pixels:
        parameters = 10·C·M + 2·(M + C)
        MACs       = 10·C·M · H·W
    """

    def __init__(
        self,
        channels: int,
        *,
        bottleneck_channels: int,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = leaky_relu,
    ) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(channels, bottleneck_channels, kernel_size=1, norm=norm, act=act)
        self.conv2 = ConvNormAct(bottleneck_channels, channels, norm=norm, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        out: Tensor = x + self.conv2(self.conv1(x))
        return out
