"""SSD's extra levels: each is made from the one before it (Liu et al. 2016, section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from flyweight.models.layers import ConvNormAct, NormFactory, relu, relu6
from flyweight.models.layers.feature_info import FeatureInfo


class SeparableExtraLevel(nn.Sequential):
    """1×1 `compress` to half the output channels, 3×3/2 depthwise, 1×1 `expand`, ReLU6.

    SSDlite: MobileNetV2, https://arxiv.org/abs/1801.04381, section 6.2, in the layout of
    torchvision. `[B, C_in, H, W]` -> `[B, C_out, ⌈H/2⌉, ⌈W/2⌉]`.
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


class ConvExtraLevel(nn.Sequential):
    """1×1 `compress` to half the output channels and a full 3×3 `expand`, ReLU.

    SSD and MobileNet-SSD: `expand` has stride 2, or, where `valid`, no padding, which takes two
    from either side of the map (SSD300's last two levels, 5² to 3² to 1²).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: NormFactory | None = nn.BatchNorm2d,
        valid: bool = False,
    ) -> None:
        super().__init__()
        middle = out_channels // 2
        self.compress = ConvNormAct(in_channels, middle, kernel_size=1, norm=norm, act=relu)
        self.expand = ConvNormAct(
            middle,
            out_channels,
            kernel_size=3,
            stride=1 if valid else 2,
            padding=0 if valid else 1,
            norm=norm,
            act=relu,
        )


class SSDExtras(nn.Module):
    """A backbone's features, followed by extra levels made from the last of them.

    Args:
        features: the levels that the backbone gives.
        channels: of each extra level.
        norm: None where BatchNorm has been folded away, or there is none.
        separable: SSDlite's levels; else those of SSD.
        valid_levels: how many of the last levels are 3×3 convolutions without padding.
        rescale: a layer that the finest level goes through first, such as SSD's L2 norm of
            conv4_3.

    Attributes:
        feature_info: of every level, the backbone's and the extra ones.
    """

    def __init__(
        self,
        features: Sequence[FeatureInfo],
        channels: Sequence[int],
        *,
        norm: NormFactory | None = nn.BatchNorm2d,
        separable: bool = True,
        valid_levels: int = 0,
        rescale: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.rescale = nn.Identity() if rescale is None else rescale
        infos = list(features)
        self.levels = nn.ModuleList()
        for index, count in enumerate(channels):
            before = infos[-1]
            if separable:
                level: nn.Module = SeparableExtraLevel(before.channels, count, norm=norm)
            else:
                valid = index >= len(channels) - valid_levels
                level = ConvExtraLevel(before.channels, count, norm=norm, valid=valid)
            self.levels.append(level)
            infos.append(FeatureInfo(f"extra{index + 1}", count, 2 * before.stride))
        self.feature_info = tuple(infos)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The features given, then one `[B, C, H, W]` for each extra level."""
        levels = [self.rescale(features[0]), *features[1:]]
        for level in self.levels:
            levels.append(level(levels[-1]))
        return levels


def scaled_extras(
    channels: Sequence[int], *, width: float = 1.0, min_depth: int = 16
) -> tuple[int, ...]:
    """Channels of the extra levels at a width multiplier, never below `min_depth`."""
    return tuple(max(min_depth, int(count * width)) for count in channels)
