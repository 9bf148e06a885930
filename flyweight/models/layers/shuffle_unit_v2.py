"""The unit of ShuffleNetV2."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.models.layers.activations import ActFactory, relu
from flyweight.models.layers.channel_shuffle import ChannelShuffle, ChannelSplit
from flyweight.models.layers.conv import ConvNormAct, NormFactory


class ShuffleUnitV2(nn.Module):
    """Half of the channels pass 1×1, depthwise and 1×1; then both halves are shuffled together.

    ShuffleNetV2, https://arxiv.org/abs/1807.11164, section 3.2 and figure 3c, 3d. With stride 1
    the input is split and one half passes untouched; with stride 2 both branches see all of it,
    and the `shortcut` is depthwise and 1×1. ThunderNet's SNet (https://arxiv.org/abs/1903.11752,
    section 3.1) takes k = 5.

    With k kernel size, D = C_out / 2, h·w input and H·W output pixels:
        stride 1: parameters = 2·D² + k²·D + 6·D
                  MACs       = (2·D² + k²·D) · H·W
        stride 2: parameters = k²·C_in + 2·C_in·D + k²·D + D² + 2·C_in + 8·D
                  MACs       = C_in·D · h·w + (k²·C_in + C_in·D + k²·D + D²) · H·W
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = relu,
    ) -> None:
        super().__init__()
        if out_channels % 2 or (stride == 1 and in_channels != out_channels):
            raise InputError(
                "needs an even number of output channels, and as many input channels at stride "
                f"1, not {in_channels} in and {out_channels} out",
                where="shuffle unit",
                fix="choose another width",
            )
        half = out_channels // 2
        branch_in = half if stride == 1 else in_channels
        self.split = ChannelSplit() if stride == 1 else None
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(
                OrderedDict(
                    depthwise=_depthwise(in_channels, kernel_size, stride=stride, norm=norm),
                    project=ConvNormAct(in_channels, half, kernel_size=1, norm=norm, act=act),
                )
            )
        self.branch = nn.Sequential(
            OrderedDict(
                enter=ConvNormAct(branch_in, half, kernel_size=1, norm=norm, act=act),
                depthwise=_depthwise(half, kernel_size, stride=stride, norm=norm),
                leave=ConvNormAct(half, half, kernel_size=1, norm=norm, act=act),
            )
        )
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, h, w] -> [B, C_out, H, W]."""
        first, second = (x, x) if self.split is None else self.split(x)
        joined = torch.cat((self.shortcut(first), self.branch(second)), dim=1)
        shuffled: Tensor = self.shuffle(joined)
        return shuffled


def _depthwise(
    channels: int, kernel_size: int, *, stride: int, norm: NormFactory | None
) -> ConvNormAct:
    return ConvNormAct(
        channels,
        channels,
        kernel_size=kernel_size,
        stride=stride,
        groups=channels,
        norm=norm,
        act=None,
    )
