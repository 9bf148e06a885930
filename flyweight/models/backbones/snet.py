"""SNet49, SNet146 and SNet535, the backbones of ThunderNet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from torch import nn

from flyweight.models.backbones.classifier import Classifier
from flyweight.models.backbones.shufflenet_v2 import ShuffleNetV2
from flyweight.models.layers.conv import NormFactory
from flyweight.models.layers.widths import make_divisible


class _Columns(NamedTuple):
    """One column of table 1 of the paper."""

    stem: int
    stages: tuple[int, int, int]
    final: int | None


_TABLE = {
    "snet49": _Columns(24, (60, 120, 240), 512),
    "snet146": _Columns(24, (132, 264, 528), None),
    "snet535": _Columns(48, (248, 496, 992), None),
}


def snet(
    name: str,
    *,
    width: float = 1.0,
    norm: NormFactory | None = nn.BatchNorm2d,
    outputs: str | Sequence[str] = "stages",
) -> ShuffleNetV2:
    """ThunderNet, https://arxiv.org/abs/1903.11752, section 3.1 and table 1.

    ShuffleNetV2 with 5×5 depthwise convolutions, for the receptive field that detection needs;
    conv5 is compressed (SNet49) or left out, for early features matter more than for
    classification. Levels: C3, C4, C5 of 60, 120, 240 (SNet49), 132, 264, 528 (SNet146) and 248,
    496, 992 channels (SNet535), and SNet49's final of 512.
    """
    columns = _TABLE[name]
    return ShuffleNetV2(
        stem_channels=make_divisible(columns.stem * width),
        stage_channels=[make_divisible(channels * width, 4) for channels in columns.stages],
        final_channels=None if columns.final is None else make_divisible(columns.final * width),
        kernel_size=5,
        norm=norm,
        outputs=outputs,
        owner=name,
        architecture={"width": width},
    )


def snet_classifier(
    name: str,
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    norm: NormFactory | None = nn.BatchNorm2d,
) -> Classifier:
    """MMACs at 224×224 and width 1, and millions of parameters.

    SNet49: 51.2, 0.88; SNet146: 161.1, 1.57; SNet535: 535.4, 4.54. Table 1 states 49, 146 and
    535 for the same channels; the numbers of the first two do not follow from its own rows, which
    the authors' code has too.
    """
    backbone = snet(name, width=width, norm=norm, outputs="classifier")
    return Classifier(backbone, num_classes=num_classes, dropout=0.0)


SNETS: dict[str, Callable[..., ShuffleNetV2]] = {name: partial(snet, name) for name in _TABLE}
SNET_CLASSIFIERS: dict[str, Callable[..., Classifier]] = {
    name: partial(snet_classifier, name) for name in _TABLE
}
