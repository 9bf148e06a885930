"""ShuffleNetV1."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.classifier import Classifier
from flyweight.models.backbones.initialisation import initialise_backbone
from flyweight.models.backbones.trunk import Plan, Trunk
from flyweight.models.layers.activations import relu
from flyweight.models.layers.conv import ConvNormAct, NormFactory
from flyweight.models.layers.shuffle_unit_v1 import ShuffleUnitV1
from flyweight.models.layers.widths import make_divisible

# Table 1 of the paper: output channels of stage 2 for each number of groups (chosen so that all
# cost the same), doubled in stages 3 and 4; units of the three stages.
_STAGE2_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
_DEPTHS = (4, 8, 4)
_STEM_CHANNELS = 24

_OUTPUT_SETS = {
    "stages": ("C2", "C3", "C4", "C5"),
    "ssdlite": ("C4", "C5"),
    "classifier": ("C5",),
}


class ShuffleNetV1(Backbone):
    """ShuffleNet, https://arxiv.org/abs/1707.01083, table 1, with 1, 2, 3, 4 or 8 groups.

    Levels at width 1 and g = 3: C1 24, C2 24 (pooled), C3 240, C4 480, C5 960 channels. The
    multiplier goes to every stage; channels are rounded to what the groups and the bottleneck of
    a quarter divide (4·g), the stem's to a multiple of 4 and g.
    """

    def __init__(
        self,
        groups: int,
        *,
        width: float = 1.0,
        norm: NormFactory | None = nn.BatchNorm2d,
        outputs: str | Sequence[str] = "stages",
    ) -> None:
        super().__init__()
        if groups not in _STAGE2_CHANNELS:
            raise InputError(
                f"table 1 has no ShuffleNet of {groups} groups",
                where="groups",
                fix=f"choose one of {', '.join(map(str, _STAGE2_CHANNELS))}",
            )
        self.architecture = {"width": width}
        channels = make_divisible(_STEM_CHANNELS * width, math.lcm(4, groups))
        plan = Plan()
        stem = ConvNormAct(3, channels, stride=2, norm=norm, act=relu)
        plan.add("stem", stem, channels=channels, stride=2)
        plan.add("pool", nn.MaxPool2d(3, 2, padding=1), channels=channels, stride=2)
        stage2_channels = make_divisible(_STAGE2_CHANNELS[groups] * width, 4 * groups)
        for stage, depth in enumerate(_DEPTHS, start=2):
            out_channels = stage2_channels * 2 ** (stage - 2)
            for index in range(depth):
                stride = 2 if index == 0 else 1
                unit = ShuffleUnitV1(
                    channels,
                    out_channels,
                    groups=groups,
                    compress_groups=1 if stage == 2 and index == 0 else groups,
                    stride=stride,
                    norm=norm,
                )
                plan.add(f"stage{stage}_{index + 1}", unit, channels=out_channels, stride=stride)
                channels = out_channels
        self.layers = Trunk(plan, outputs, owner=f"shufflenet_v1_g{groups}", sets=_OUTPUT_SETS)
        self.feature_info = self.layers.feature_info
        initialise_backbone(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> one tensor a level of `feature_info`."""
        features: list[Tensor] = self.layers(x)
        return features


def shufflenet_v1_classifier(
    groups: int,
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    norm: NormFactory | None = nn.BatchNorm2d,
) -> Classifier:
    """MMACs at 224×224 and width 1, and millions of parameters.

    g = 1: 143.1, 1.53; g = 2: 140.8, 1.73; g = 3: 137.5, 1.87; g = 4: 134.3, 1.97; g = 8: 138.4,
    2.43. Table 1 leaves the linear layer out (143, 140, 137, 133, 137).
    """
    backbone = ShuffleNetV1(groups, width=width, norm=norm, outputs="classifier")
    return Classifier(backbone, num_classes=num_classes, dropout=0.0)


SHUFFLENETS_V1: dict[str, Callable[..., ShuffleNetV1]] = {
    f"shufflenet_v1_g{groups}": partial(ShuffleNetV1, groups) for groups in _STAGE2_CHANNELS
}
SHUFFLENET_V1_CLASSIFIERS: dict[str, Callable[..., Classifier]] = {
    f"shufflenet_v1_g{groups}": partial(shufflenet_v1_classifier, groups)
    for groups in _STAGE2_CHANNELS
}
