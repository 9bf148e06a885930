"""The unit of ShuffleNetV1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.models.layers.activations import ActFactory, relu
from flyweight.models.layers.channel_shuffle import ChannelShuffle
from flyweight.models.layers.conv import ConvNormAct, NormFactory

# Section 3.2: the bottleneck has a quarter of the unit's output channels.
_REDUCTION = 4


class ShuffleUnitV1(nn.Module):
    """Grouped 1×1 `compress`, shuffle, 3×3 `depthwise`, grouped 1×1 `expand`, and the shortcut.

    ShuffleNet, https://arxiv.org/abs/1707.01083, section 3.2 and figure 2b, 2c. With stride 1 the
    shortcut is added; with stride 2 it is a 3×3 average pooling and concatenated, so `expand`
    gives only the channels that are missing. `compress_groups` is 1 in the very first unit,
    which has too few input channels to group.

    With g groups, M = C_out / 4, E = C_out (or C_out - C_in with stride 2), h·w input and H·W
    output pixels:
        parameters = C_in·M/g + 9·M + M·E/g + 2·(2·M + E)
        MACs       = C_in·M/g · h·w + (9·M + M·E/g) · H·W
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        groups: int,
        compress_groups: int | None = None,
        stride: int = 1,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = relu,
    ) -> None:
        super().__init__()
        compress_groups = groups if compress_groups is None else compress_groups
        middle = out_channels // _REDUCTION
        expanded = out_channels if stride == 1 else out_channels - in_channels
        _check(in_channels, out_channels, stride=stride)
        for part, channels, divisor in (
            ("input", in_channels, compress_groups),
            ("bottleneck (a quarter of the output)", middle, groups),
            ("expansion", expanded, groups),
        ):
            if channels <= 0 or channels % divisor:
                raise InputError(
                    f"{divisor} groups do not divide the {channels} channels of the {part}",
                    where="shuffle unit",
                    fix="choose another width or number of groups",
                )
        self.compress = ConvNormAct(
            in_channels, middle, kernel_size=1, groups=compress_groups, norm=norm, act=act
        )
        self.shuffle = ChannelShuffle(groups)
        self.depthwise = ConvNormAct(
            middle, middle, stride=stride, groups=middle, norm=norm, act=None
        )
        self.expand = ConvNormAct(
            middle, expanded, kernel_size=1, groups=groups, norm=norm, act=None
        )
        self.pool = None if stride == 1 else nn.AvgPool2d(3, stride, padding=1)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, h, w] -> [B, C_out, H, W]."""
        branch = self.expand(self.depthwise(self.shuffle(self.compress(x))))
        joined = x + branch if self.pool is None else torch.cat((self.pool(x), branch), dim=1)
        out: Tensor = self.act(joined)
        return out


def _check(in_channels: int, out_channels: int, *, stride: int) -> None:
    if stride == 1 and in_channels != out_channels:
        raise InputError(
            f"a unit of stride 1 adds its input: {in_channels} channels in, {out_channels} out",
            where="shuffle unit",
            fix="make them equal",
        )
    if out_channels % _REDUCTION:
        raise InputError(
            f"{out_channels} output channels are no multiple of {_REDUCTION}, which the "
            "bottleneck needs",
            where="shuffle unit",
            fix="choose another width",
        )
