"""YOLOv3's neck: three scales, by upsampling and concatenation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from flyweight.models.layers import ActFactory, ConvNormAct, NormFactory
from flyweight.models.layers.activations import leaky_relu
from flyweight.models.layers.feature_info import FeatureInfo
from flyweight.models.necks.coarser import CoarserLevels, Source
from flyweight.models.necks.fpn import pyramid_info, upsample_to

# Of P3, P4 and P5 in yolov3.cfg and yolov4.cfg.
YOLO_CHANNELS = (128, 256, 512)


class ConvSet(nn.Sequential):
    """1×1 to C channels (`squeeze`), then n times 3×3 to 2·C (`expand`) and 1×1 back to C.

    With H·W pixels:
        parameters = C_in·C + n·20·C² + 2·(C + 3·n·C)
        MACs       = (C_in·C + n·20·C²) · H·W
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        depth: int = 2,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = leaky_relu,
        conv: Callable[..., nn.Module] = ConvNormAct,
    ) -> None:
        super().__init__()

        def squeeze(before: int) -> nn.Module:
            return ConvNormAct(before, channels, kernel_size=1, norm=norm, act=act)

        self.squeeze = squeeze(in_channels)
        for index in range(1, depth + 1):
            self.add_module(f"expand{index}", conv(channels, 2 * channels, norm=norm, act=act))
            self.add_module(f"squeeze{index}", squeeze(2 * channels))


class YOLOFPN(nn.Module):
    """Top-down like an FPN, but levels are concatenated, and each is five convolutions deep.

    YOLOv3, https://arxiv.org/abs/1804.02767, section 2.3, and `yolov3.cfg`: the coarsest level is
    a `ConvSet` of the backbone's; from there a 1×1 convolution (`reduce`), upsampling by nearest
    neighbour, concatenation with the backbone's finer level and a `ConvSet` again. Coarser levels
    follow (`CoarserLevels`).

    With C_l channels of level l, B_l of the backbone's and H_l·W_l cells, L the coarsest:
        parameters ≈ MACs of one cell = B_L·C_L + 40·C_L²
                     + Σ_{l<L} (C_{l+1}·C_l + (B_l + C_l)·C_l + 40·C_l²)
    (`reduce` runs on the cells of level l + 1), and two for each channel of a norm.

    Args:
        features: the levels that the backbone gives, finest first.
        channels: of every level of the pyramid, or of each.
        num_levels: of the pyramid; those beyond the backbone's are made by `CoarserLevels`.
        norm: after each convolution; None for none.
        act: after each convolution.
        coarser: what the first coarser level is made of: "P5", "C5" or "pool" (subsampled P5).
        conv: makes the 3×3 convolutions; called like `ConvNormAct`.

    Attributes:
        feature_info: P-levels, finest first.
    """

    def __init__(
        self,
        features: Sequence[FeatureInfo],
        *,
        channels: int | Sequence[int] = YOLO_CHANNELS,
        num_levels: int = 3,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = leaky_relu,
        coarser: Source = "P5",
        conv: Callable[..., nn.Module] = ConvNormAct,
    ) -> None:
        super().__init__()
        used = features[: min(len(features), num_levels)]
        widths = level_widths(channels, len(used))
        inputs = [each.channels + width for each, width in zip(used, widths, strict=True)]
        inputs[-1] = used[-1].channels
        self.sets = nn.ModuleList(
            ConvSet(before, width, norm=norm, act=act, conv=conv)
            for before, width in zip(inputs, widths, strict=True)
        )
        self.reduce = make_reduce(widths, norm=norm, act=act)
        self.coarser = CoarserLevels(
            num_levels - len(used),
            channels=widths[-1],
            source=coarser,
            source_channels=used[-1].channels if coarser == "C5" else widths[-1],
        )
        self.feature_info = pyramid_info(used, channels=widths, num_levels=num_levels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """One `[B, C, H, W]` for each level of `feature_info`."""
        last = len(self.sets) - 1
        levels = [self.sets[last](features[last])]
        for finer in range(last - 1, -1, -1):
            above = upsample_to(self.reduce[finer](levels[0]), features[finer])
            levels.insert(0, self.sets[finer](torch.cat((above, features[finer]), dim=1)))
        return levels + self.coarser(levels[-1], features[last])


def level_widths(channels: int | Sequence[int], count: int) -> tuple[int, ...]:
    """Channels of each of `count` levels: one number for all, or the first of a sequence."""
    if isinstance(channels, int):
        return (channels,) * count
    if len(channels) < count:
        raise ValueError(f"channels of {len(channels)} levels, but the pyramid has {count}")
    return tuple(channels[:count])


def make_reduce(
    widths: Sequence[int], *, norm: NormFactory | None, act: ActFactory
) -> nn.ModuleList:
    """Of each level but the coarsest, the 1×1 convolution from the next coarser level to it."""
    return nn.ModuleList(
        ConvNormAct(above, width, kernel_size=1, norm=norm, act=act)
        for width, above in pairwise(widths)
    )
