"""Deformable convolution, version 1 and 2."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from flyweight.models.layers.activations import ActFactory, relu
from flyweight.models.layers.conv import NormFactory


class DeformableConv(nn.Module):
    """A convolution that shifts each of its k² sampling points by an offset it predicts.

    Deformable Convolutional Networks, https://arxiv.org/abs/1703.06211, section 2.1; `modulated`
    adds version 2's weight of each point (https://arxiv.org/abs/1811.11168, section 2.2). The
    branch that predicts them, `offset`, starts at zero, so that training starts from a plain
    convolution; modulated, from half of it, as the sigmoid of zero is one half (equation 1).

    With k kernel size, g groups, n = 2 (modulated: 3) numbers a point, H·W output pixels:
        parameters = k²·C_in·C_out/g + C_out + k²·C_in·n·k² + n·k²   (without bias: - C_out)
        MACs       = (k²·C_in·C_out/g + k²·C_in·n·k²) · H·W   (and 4·k²·C_in·H·W to interpolate)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        modulated: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.dilation = stride, dilation
        self.padding = (kernel_size - 1) // 2 * dilation
        self.modulated = modulated
        self.points = kernel_size**2
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.offset = nn.Conv2d(
            in_channels,
            (3 if modulated else 2) * self.points,
            kernel_size,
            stride=stride,
            padding=self.padding,
            dilation=dilation,
        )
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H·stride, W·stride] -> [B, C_out, H, W]."""
        predicted = self.offset(x)
        mask = predicted[:, 2 * self.points :].sigmoid() if self.modulated else None
        out: Tensor = deform_conv2d(
            x,
            predicted[:, : 2 * self.points],
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=mask,
        )
        return out


class DeformableConvNormAct(nn.Sequential):
    """A deformable convolution, a norm over its output channels, and an activation.

    Parameters and MACs are those of `DeformableConv`, with 2·C_out of the norm in place of its
    bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        modulated: bool = True,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory | None = relu,
    ) -> None:
        super().__init__()
        self.conv = DeformableConv(
            in_channels,
            out_channels,
            kernel_size=kernel_size,
            stride=stride,
            dilation=dilation,
            groups=groups,
            modulated=modulated,
            bias=norm is None,
        )
        if norm is not None:
            self.norm = norm(out_channels)
        if act is not None:
            self.act = act()
