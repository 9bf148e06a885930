"""YOLOv4's neck: spatial pyramid pooling and a path aggregation network by concatenation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from flyweight.models.layers import ActFactory, ConvNormAct, NormFactory
from flyweight.models.layers.activations import leaky_relu
from flyweight.models.layers.feature_info import FeatureInfo
from flyweight.models.layers.spp import SPP
from flyweight.models.necks.coarser import CoarserLevels, Source
from flyweight.models.necks.fpn import pyramid_info, upsample_to
from flyweight.models.necks.yolo_fpn import (
    YOLO_CHANNELS,
    ConvSet,
    level_widths,
    make_reduce,
)


class SPPSet(nn.Sequential):
    """Three convolutions, SPP over 5, 9 and 13 cells, three convolutions.

    YOLOv3-SPP and YOLOv4 (https://arxiv.org/abs/2004.10934, section 3.4): at stride 32 the widest
    pooling sees 416 pixels. Two `ConvSet` of one expansion, the second of 4·C channels.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = leaky_relu,
        conv: Callable[..., nn.Module] = ConvNormAct,
    ) -> None:
        super().__init__()
        self.before = ConvSet(in_channels, channels, depth=1, norm=norm, act=act, conv=conv)
        self.spp = SPP()
        self.after = ConvSet(4 * channels, channels, depth=1, norm=norm, act=act, conv=conv)


class YOLOPAN(nn.Module):
    """SPP on the coarsest level, an FPN down to the finest, and a second path up again.

    YOLOv4, https://arxiv.org/abs/2004.10934, section 3.4 and figure 6, and `yolov4.cfg`. On the
    way to finer levels: a 1×1 convolution (`reduce`) and upsampling, the backbone's level through
    a 1×1 (`lateral`), both concatenated, a `ConvSet` (`sets`). On the way back: a 3×3/2
    convolution (`down`), concatenated with the level, a `ConvSet` (`fuse`). Coarser levels follow
    (`CoarserLevels`).

    With C_l channels of level l and B_l of the backbone's, L the coarsest:
        parameters ≈ B_L·C_L + 44·C_L² + Σ_{l<L} (C_{l+1}·C_l + B_l·C_l + 42·C_l²)
                     + Σ_{l>1} (9·C_{l-1}·C_l + 42·C_l²)
    and two for each channel of a norm; MACs: each term times the cells of its level (`reduce` runs
    on those of level l + 1).

    Args: those of `YOLOFPN`.

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

        def conv_set(width: int) -> nn.Module:
            return ConvSet(2 * width, width, norm=norm, act=act, conv=conv)

        self.spp = SPPSet(used[-1].channels, widths[-1], norm=norm, act=act, conv=conv)
        self.reduce = make_reduce(widths, norm=norm, act=act)
        self.lateral = nn.ModuleList(
            ConvNormAct(each.channels, width, kernel_size=1, norm=norm, act=act)
            for each, width in zip(used[:-1], widths[:-1], strict=True)
        )
        self.sets = nn.ModuleList(conv_set(width) for width in widths[:-1])
        self.down = nn.ModuleList(
            conv(before, width, stride=2, norm=norm, act=act) for before, width in pairwise(widths)
        )
        self.fuse = nn.ModuleList(conv_set(width) for width in widths[1:])
        self.coarser = CoarserLevels(
            num_levels - len(used),
            channels=widths[-1],
            source=coarser,
            source_channels=used[-1].channels if coarser == "C5" else widths[-1],
        )
        self.feature_info = pyramid_info(used, channels=widths, num_levels=num_levels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """One `[B, C, H, W]` for each level of `feature_info`."""
        last = len(self.sets)
        pyramid = [self.spp(features[last])]
        for finer in range(last - 1, -1, -1):
            lateral = self.lateral[finer](features[finer])
            above = upsample_to(self.reduce[finer](pyramid[0]), lateral)
            pyramid.insert(0, self.sets[finer](torch.cat((lateral, above), dim=1)))
        levels = [pyramid[0]]
        for down, fuse, level in zip(self.down, self.fuse, pyramid[1:], strict=True):
            levels.append(fuse(torch.cat((down(levels[-1]), level), dim=1)))
        return levels + self.coarser(levels[-1], features[last])
