"""ShuffleNetV2."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.classifier import Classifier
from flyweight.models.backbones.initialisation import initialise_backbone
from flyweight.models.backbones.trunk import Plan, Trunk
from flyweight.models.layers.activations import relu
from flyweight.models.layers.conv import ConvNormAct, NormFactory
from flyweight.models.layers.shuffle_unit_v2 import ShuffleUnitV2
from flyweight.models.layers.widths import make_divisible

# Table 5 of the paper: channels of stage 2 (doubled in stages 3 and 4) and of conv5 by width.
_PUBLISHED = {0.5: (48, 1024), 1.0: (116, 1024), 1.5: (176, 1024), 2.0: (244, 2048)}
_STEM_CHANNELS = 24
_DEPTHS = (4, 8, 4)

_WITH_FINAL = {
    "stages": ("C2", "C3", "C4", "C5"),
    "ssdlite": ("C4", "final"),
    "classifier": ("final",),
}
_WITHOUT_FINAL = _WITH_FINAL | {"ssdlite": ("C4", "C5"), "classifier": ("C5",)}


class ShuffleNetV2(Backbone):
    """ShuffleNetV2, https://arxiv.org/abs/1807.11164, table 5.

    `shufflenet_v2` below gives it the published channels, `snet49` and its siblings those of
    ThunderNet.
    """

    def __init__(
        self,
        *,
        stem_channels: int,
        stage_channels: Sequence[int],
        final_channels: int | None,
        kernel_size: int,
        norm: NormFactory | None,
        outputs: str | Sequence[str],
        owner: str,
        architecture: dict[str, float],
    ) -> None:
        super().__init__()
        self.architecture = architecture
        channels = stem_channels
        plan = Plan()
        stem = ConvNormAct(3, channels, stride=2, norm=norm, act=relu)
        plan.add("stem", stem, channels=channels, stride=2)
        plan.add("pool", nn.MaxPool2d(3, 2, padding=1), channels=channels, stride=2)
        for stage, (depth, out_channels) in enumerate(
            zip(_DEPTHS, stage_channels, strict=True), start=2
        ):
            for index in range(depth):
                stride = 2 if index == 0 else 1
                unit = ShuffleUnitV2(
                    channels, out_channels, kernel_size=kernel_size, stride=stride, norm=norm
                )
                plan.add(f"stage{stage}_{index + 1}", unit, channels=out_channels, stride=stride)
                channels = out_channels
        if final_channels is not None:
            final = ConvNormAct(channels, final_channels, kernel_size=1, norm=norm, act=relu)
            plan.add("final", final, channels=final_channels, stride=1)
        sets = _WITHOUT_FINAL if final_channels is None else _WITH_FINAL
        self.layers = Trunk(plan, outputs, owner=owner, sets=sets)
        self.feature_info = self.layers.feature_info
        initialise_backbone(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> one tensor a level of `feature_info`."""
        features: list[Tensor] = self.layers(x)
        return features


def shufflenet_v2(
    *,
    width: float = 1.0,
    norm: NormFactory | None = nn.BatchNorm2d,
    outputs: str | Sequence[str] = "stages",
) -> ShuffleNetV2:
    """Widths 0.5, 1, 1.5 and 2 have the published channels, others lie in between.

    Levels at width 1: C1 24, C2 24 (pooled), C3 116, C4 232, C5 464, final 1024 channels.
    """
    stage2, final = _channels(width)
    return ShuffleNetV2(
        stem_channels=_STEM_CHANNELS,
        stage_channels=(stage2, 2 * stage2, 4 * stage2),
        final_channels=final,
        kernel_size=3,
        norm=norm,
        outputs=outputs,
        owner="shufflenet_v2",
        architecture={"width": width},
    )


def shufflenet_v2_classifier(
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    norm: NormFactory | None = nn.BatchNorm2d,
) -> Classifier:
    """2.28 M parameters and 144.9 MMACs at 224×224 and width 1."""
    backbone = shufflenet_v2(width=width, norm=norm, outputs="classifier")
    return Classifier(backbone, num_classes=num_classes, dropout=0.0)


def _channels(width: float) -> tuple[int, int]:
    """Channels of stage 2 and of the final convolution.

    The published channels do not grow in proportion to the width, so others are interpolated
    between them; below the narrowest and above the widest they scale from it.
    """
    if width in _PUBLISHED:
        return _PUBLISHED[width]
    widths = sorted(_PUBLISHED)
    if width < widths[0]:
        stage2, final = _PUBLISHED[widths[0]]
        return make_divisible(stage2 * width / widths[0]), final
    if width > widths[-1]:
        stage2, final = _PUBLISHED[widths[-1]]
        factor = width / widths[-1]
        return make_divisible(stage2 * factor), make_divisible(final * factor)
    low, high = next((low, high) for low, high in pairwise(widths) if low < width < high)
    share = (width - low) / (high - low)
    stage2, final = (
        make_divisible(a + share * (b - a))
        for a, b in zip(_PUBLISHED[low], _PUBLISHED[high], strict=True)
    )
    return stage2, final
