"""Path Aggregation Network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from flyweight.models.layers import ConvNormAct, DepthwiseSeparable, NormFactory, relu
from flyweight.models.layers.feature_info import FeatureInfo
from flyweight.models.necks.coarser import CoarserLevels, Source
from flyweight.models.necks.fpn import FPN, pyramid_info


class PAN(nn.Module):
    """An FPN, and a second path from its finest level down again.

    Path Aggregation Network, https://arxiv.org/abs/1803.01534, section 3.1 and figure 2: on the
    way down a 3×3/2 convolution (`down`), addition to the FPN's level, a 3×3 convolution (`fuse`),
    each with ReLU. (YOLOv4 concatenates instead: `YOLOPAN`.)

    Beside the FPN, with L levels, C channels, H_l·W_l cells of level l:
        parameters = (L-1)·(18·C² + 2·C)   (biases; or norms)
        MACs       = Σ_{l>1} 18·C²·H_l·W_l

    Args: those of `FPN`.
    """

    def __init__(
        self,
        features: Sequence[FeatureInfo],
        *,
        channels: int = 256,
        num_levels: int = 5,
        norm: NormFactory | None = None,
        separable: bool = False,
        coarser: Source = "P5",
    ) -> None:
        super().__init__()
        used = features[: min(len(features), num_levels)]
        self.fpn = FPN(
            used, channels=channels, num_levels=len(used), norm=norm, separable=separable
        )

        def convs(stride: int) -> nn.ModuleList:
            return nn.ModuleList(
                DepthwiseSeparable(
                    channels, channels, stride=stride, norm=norm, act=None, pointwise_act=relu
                )
                if separable
                else ConvNormAct(channels, channels, stride=stride, norm=norm, act=relu)
                for _ in used[1:]
            )

        self.down, self.fuse = convs(2), convs(1)
        self.coarser = CoarserLevels(
            num_levels - len(used),
            channels=channels,
            source=coarser,
            source_channels=used[-1].channels if coarser == "C5" else channels,
        )
        self.feature_info = pyramid_info(used, channels=channels, num_levels=num_levels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """One `[B, channels, H, W]` for each level of `feature_info`."""
        pyramid = self.fpn(features)
        levels = [pyramid[0]]
        for down, fuse, level in zip(self.down, self.fuse, pyramid[1:], strict=True):
            levels.append(fuse(level + down(levels[-1])))
        return levels + self.coarser(levels[-1], features[len(levels) - 1])
