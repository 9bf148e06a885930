"""Depthwise separable convolution."""

from __future__ import annotations

from torch import nn

from flyweight.models.layers.activations import ActFactory, relu6
from flyweight.models.layers.conv import ConvNormAct, NormFactory


class DepthwiseSeparable(nn.Sequential):
    """A k×k convolution of each channel alone (`depthwise`), then a 1×1 across (`pointwise`).

    MobileNets (V1), https://arxiv.org/abs/1704.04861, section 3.1 and figure 3: each half has its
    own norm and activation.

    With H·W output pixels:
        parameters = k²·C_in + C_in·C_out + 2·(C_in + C_out)
        MACs       = (k²·C_in + C_in·C_out) · H·W
    which is 1/C_out + 1/k² of the full convolution's MACs (equation 5).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory | None = relu6,
        pointwise_act: ActFactory | None = relu6,
    ) -> None:
        super().__init__()
        self.depthwise = ConvNormAct(
            in_channels,
            in_channels,
            kernel_size=kernel_size,
            stride=stride,
            dilation=dilation,
            groups=in_channels,
            norm=norm,
            act=act,
        )
        self.pointwise = ConvNormAct(
            in_channels, out_channels, kernel_size=1, norm=norm, act=pointwise_act
        )
