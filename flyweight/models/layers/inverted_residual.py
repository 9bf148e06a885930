"""Inverted residual with a linear bottleneck."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from flyweight.models.layers.activations import ActFactory, relu6
from flyweight.models.layers.conv import ConvNormAct, NormFactory


class InvertedResidual(nn.Module):
    """1×1 `expand`, k×k `depthwise`, optional `squeeze`, linear 1×1 `project`, and the shortcut.

    MobileNetV2, https://arxiv.org/abs/1801.04381, section 3.3 and table 1; with squeeze-excite
    after the depthwise convolution MobileNetV3, https://arxiv.org/abs/1905.02244, figure 4. The
    shortcut joins the narrow ends, and only where stride is 1 and the channels agree. There is
    no `expand` where it would not widen (expanded_channels == in_channels).

    With E expanded channels, h·w input and H·W output pixels (SqueezeExcite counts for itself):
        parameters = C_in·E + k²·E + E·C_out + 2·(2·E + C_out)
        MACs       = C_in·E · h·w + (k²·E + E·C_out) · H·W

    `forward` is `contract(widen(x), x)`: SSDlite reads the expansion output between the two.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expanded_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = relu6,
        squeeze: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.expanded_channels = expanded_channels
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.expand: nn.Module = nn.Identity()
        if expanded_channels != in_channels:
            self.expand = ConvNormAct(
                in_channels, expanded_channels, kernel_size=1, norm=norm, act=act
            )
        self.depthwise = ConvNormAct(
            expanded_channels,
            expanded_channels,
            kernel_size=kernel_size,
            stride=stride,
            dilation=dilation,
            groups=expanded_channels,
            norm=norm,
            act=act,
        )
        self.squeeze = squeeze(expanded_channels) if squeeze is not None else nn.Identity()
        self.project = ConvNormAct(
            expanded_channels, out_channels, kernel_size=1, norm=norm, act=None
        )

    def widen(self, x: Tensor) -> Tensor:
        """The expansion output: [B, C_in, h, w] -> [B, E, h, w]."""
        expanded: Tensor = self.expand(x)
        return expanded

    def contract(self, expanded: Tensor, x: Tensor) -> Tensor:
        """What follows the expansion: [B, E, h, w] and the block's input -> [B, C_out, H, W]."""
        projected: Tensor = self.project(self.squeeze(self.depthwise(expanded)))
        return x + projected if self.has_shortcut else projected

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, h, w] -> [B, C_out, H, W]."""
        return self.contract(self.widen(x), x)
