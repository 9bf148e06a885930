"""SSDlite's extra levels: each halves the map that the one before it made."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from flyweight.models.layers import ConvNormAct, NormFactory, relu6


class ExtraLevel(nn.Sequential):
    """1×1 `compress` to half the output channels, 3×3/2 depthwise, 1×1 `expand`.

    MobileNetV2, https://arxiv.org/abs/1801.04381, section 6.2, in the layout of torchvision's
    SSDlite. `[B, C_in, H, W]` -> `[B, C_out, ⌈H/2⌉, ⌈W/2⌉]`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: NormFactory | None = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        middle = out_channels // 2
        self.compress = ConvNormAct(in_channels, middle, kernel_size=1, norm=norm, act=relu6)
        self.depthwise = ConvNormAct(
            middle, middle, kernel_size=3, stride=2, groups=middle, norm=norm, act=relu6
        )
        self.expand = ConvNormAct(middle, out_channels, kernel_size=1, norm=norm, act=relu6)


class SSDExtras(nn.Module):
    """A backbone's features, followed by extra levels made from the last of them.

    Args:
        in_channels: of each level that the backbone gives.
        channels: of each extra level.
        norm: None where BatchNorm has been folded away.

    Attributes:
        out_channels: of every level, the backbone's and the extra ones.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: Sequence[int],
        *,
        norm: NormFactory | None = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.out_channels = (*in_channels, *channels)
        inputs = (in_channels[-1], *channels[:-1])
        self.levels = nn.ModuleList(
            ExtraLevel(before, after, norm=norm)
            for before, after in zip(inputs, channels, strict=True)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """The features given, then one `[B, C, H, W]` for each extra level."""
        levels = list(features)
        for level in self.levels:
            levels.append(level(levels[-1]))
        return levels

    def grids(self, grids: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of every level, given those of the backbone's."""
        levels = list(grids)
        for _ in self.levels:
            rows, columns = levels[-1]
            levels.append(((rows + 1) // 2, (columns + 1) // 2))
        return tuple(levels)


def scaled_extras(
    channels: Sequence[int], *, width: float = 1.0, min_depth: int = 16
) -> tuple[int, ...]:
    """Channels of the extra levels at a width multiplier, never below `min_depth`."""
    return tuple(max(min_depth, int(count * width)) for count in channels)
