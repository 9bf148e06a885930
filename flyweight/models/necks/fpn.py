"""Feature Pyramid Network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from flyweight.models.layers import ConvNormAct, DepthwiseSeparable, NormFactory
from flyweight.models.layers.feature_info import FeatureInfo
from flyweight.models.necks.coarser import CoarserLevels, Source


class FPN(nn.Module):
    """Top-down: every level gets the upsampled sum of all coarser ones.

    Feature Pyramid Networks, https://arxiv.org/abs/1612.03144, section 3 and figure 3: 1×1
    `lateral` convolutions, upsampling by nearest neighbour, addition, a 3×3 `output` convolution
    on each level; no activation. Coarser levels follow (`CoarserLevels`).

    With L levels, C channels, C_l channels and H_l·W_l cells of level l:
        parameters = Σ_l (C_l·C + 9·C²) + 2·L·C   (biases; or norms)
        MACs       = Σ_l (C_l·C + 9·C²)·H_l·W_l

    Args:
        features: the levels that the backbone gives, finest first.
        channels: of every level of the pyramid.
        num_levels: of the pyramid; those beyond the backbone's are made by `CoarserLevels`.
        norm: after each convolution; None for none.
        separable: the `output` convolutions are depthwise separable, (9 + C)·C in place of 9·C².
        coarser: what the first coarser level is made of: "P5", "C5" or "pool" (subsampled P5).

    Attributes:
        feature_info: P-levels, finest first.
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
        self.lateral = nn.ModuleList(
            ConvNormAct(each.channels, channels, kernel_size=1, norm=norm, act=None)
            for each in used
        )
        self.output = nn.ModuleList(
            DepthwiseSeparable(channels, channels, norm=norm, act=None, pointwise_act=None)
            if separable
            else ConvNormAct(channels, channels, kernel_size=3, norm=norm, act=None)
            for _ in used
        )
        self.coarser = CoarserLevels(
            num_levels - len(used),
            channels=channels,
            source=coarser,
            source_channels=used[-1].channels if coarser == "C5" else channels,
        )
        self.feature_info = pyramid_info(used, channels=channels, num_levels=num_levels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """One `[B, channels, H, W]` for each level of `feature_info`."""
        merged = [
            lateral(feature) for lateral, feature in zip(self.lateral, features, strict=False)
        ]
        for finer in range(len(merged) - 2, -1, -1):
            merged[finer] = merged[finer] + upsample_to(merged[finer + 1], merged[finer])
        levels = [output(each) for output, each in zip(self.output, merged, strict=True)]
        return levels + self.coarser(levels[-1], features[len(levels) - 1])


def upsample_to(x: Tensor, finer: Tensor) -> Tensor:
    """`x [B, C, h, w]` at the height and width of `finer`, by nearest neighbour."""
    return functional.interpolate(x, size=finer.shape[-2:], mode="nearest")


def pyramid_info(
    features: Sequence[FeatureInfo], *, channels: int | Sequence[int], num_levels: int
) -> tuple[FeatureInfo, ...]:
    """P-levels: one a backbone level, then each of twice the stride and the last one's channels.

    Args:
        features: the backbone's levels.
        channels: of all levels, or of each that the backbone has.
        num_levels: of the pyramid.
    """
    strides = [each.stride for each in features]
    widths = [channels] * len(strides) if isinstance(channels, int) else list(channels)
    while len(strides) < num_levels:
        strides.append(2 * strides[-1])
        widths.append(widths[-1])
    return tuple(
        FeatureInfo(f"P{stride.bit_length() - 1}", width, stride)
        for stride, width in zip(strides, widths, strict=True)
    )
