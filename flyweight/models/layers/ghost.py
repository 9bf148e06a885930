"""Ghost module and ghost bottleneck."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from flyweight.models.layers.activations import ActFactory, relu
from flyweight.models.layers.conv import ConvNormAct, NormFactory


class GhostModule(nn.Module):
    """A convolution gives 1/s of the channels; cheap depthwise ones make the others out of those.

    GhostNet, https://arxiv.org/abs/1911.11907, section 3.1 and figure 2: `primary` and `cheap`.

    With ratio s, P = ceil(C_out / s) primary channels, kernel k, cheap kernel d, H·W output
    pixels:
        parameters = k²·C_in·P + d²·(s - 1)·P + 2·s·P
        MACs       = (k²·C_in·P + d²·(s - 1)·P) · H·W
    which is about 1/s of the convolution's (equation 4).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        cheap_kernel_size: int = 3,
        ratio: int = 2,
        stride: int = 1,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory | None = relu,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        primary = -(-out_channels // ratio)
        self.primary = ConvNormAct(
            in_channels, primary, kernel_size=kernel_size, stride=stride, norm=norm, act=act
        )
        self.cheap = ConvNormAct(
            primary,
            primary * (ratio - 1),
            kernel_size=cheap_kernel_size,
            groups=primary,
            norm=norm,
            act=act,
        )
        self.surplus = primary * ratio - out_channels

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H·stride, W·stride] -> [B, C_out, H, W]."""
        primary = self.primary(x)
        joined = torch.cat((primary, self.cheap(primary)), dim=1)
        return joined[:, : self.out_channels] if self.surplus else joined


class GhostBottleneck(nn.Module):
    """Ghost module `expand`, `depthwise` where it strides, optional `squeeze`, `project`, shortcut.

    GhostNet, https://arxiv.org/abs/1911.11907, section 3.2 and figure 3: an inverted residual
    with ghost modules in place of the 1×1 convolutions; the last one is linear. Where stride or
    channels change, the shortcut is a depthwise and a 1×1 convolution.

    With E expanded channels (E and C_out even, s = 2), kernel k, h·w input and H·W output pixels,
    D = 1 with stride 2 else 0, P = 1 where the shortcut projects else 0 (SqueezeExcite counts for
    itself):
        parameters = (C_in + 9)·E/2 + D·k²·E + (E + 9)·C_out/2 + P·(k²·C_in + C_in·C_out)
                     + 2·(E + D·E + C_out + P·(C_in + C_out))
        MACs       = (C_in + 9)·E/2 · h·w
                     + (D·k²·E + (E + 9)·C_out/2 + P·(k²·C_in + C_in·C_out)) · H·W

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
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = relu,
        squeeze: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.expanded_channels = expanded_channels
        self.expand = GhostModule(in_channels, expanded_channels, norm=norm, act=act)
        self.depthwise: nn.Module = nn.Identity()
        if stride != 1:
            self.depthwise = _depthwise(
                expanded_channels, kernel_size=kernel_size, stride=stride, norm=norm
            )
        self.squeeze = squeeze(expanded_channels) if squeeze is not None else nn.Identity()
        self.project = GhostModule(expanded_channels, out_channels, norm=norm, act=None)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut.add_module(
                "depthwise",
                _depthwise(in_channels, kernel_size=kernel_size, stride=stride, norm=norm),
            )
            self.shortcut.add_module(
                "project",
                ConvNormAct(in_channels, out_channels, kernel_size=1, norm=norm, act=None),
            )

    def widen(self, x: Tensor) -> Tensor:
        """The expansion output: [B, C_in, h, w] -> [B, E, h, w]."""
        expanded: Tensor = self.expand(x)
        return expanded

    def contract(self, expanded: Tensor, x: Tensor) -> Tensor:
        """What follows the expansion: [B, E, h, w] and the block's input -> [B, C_out, H, W]."""
        out: Tensor = self.project(self.squeeze(self.depthwise(expanded))) + self.shortcut(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, h, w] -> [B, C_out, H, W]."""
        return self.contract(self.widen(x), x)


def _depthwise(
    channels: int, *, kernel_size: int, stride: int, norm: NormFactory | None
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
