"""Transposed convolution, norm, activation: upsampling that is learned."""

from __future__ import annotations

from torch import nn

from flyweight.models.layers.activations import ActFactory, relu
from flyweight.models.layers.conv import NormFactory


class TransposedConvNormAct(nn.Sequential):
    """A transposed convolution, a norm over its output channels, and an activation.

    Deconvolutional Networks, https://doi.org/10.1109/CVPR.2010.5539957: the input is spread with
    `stride` - 1 zeros between its pixels and then convolved. Height and width become `stride`
    times as large; k - stride must be even and not negative for that.

    With k kernel size, g groups, h·w input pixels:
        parameters = k²·C_in·C_out/g + 2·C_out   (norm; or + C_out for the bias without norm)
        MACs       = k²·C_in·C_out/g · h·w
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 4,
        stride: int = 2,
        groups: int = 1,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory | None = relu,
    ) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=(kernel_size - stride) // 2,
            groups=groups,
            bias=norm is None,
        )
        if norm is not None:
            self.norm = norm(out_channels)
        if act is not None:
            self.act = act()
