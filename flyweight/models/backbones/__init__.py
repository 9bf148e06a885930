"""Backbones: one family a file, every one with a width multiplier and published levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from flyweight.core.errors import InputError
from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.classifier import Classifier
from flyweight.models.backbones.darknet import (
    CSPDarknet53,
    Darknet53,
    cspdarknet53_classifier,
    darknet53_classifier,
)
from flyweight.models.backbones.document_net import DocumentNet, document_net_classifier
from flyweight.models.backbones.feature_info import FeatureInfo
from flyweight.models.backbones.ghostnet import GhostNet, ghostnet_classifier
from flyweight.models.backbones.mobilenet_v1 import MobileNetV1, mobilenet_v1_classifier
from flyweight.models.backbones.mobilenet_v2 import MobileNetV2, mobilenet_v2_classifier
from flyweight.models.backbones.mobilenet_v3 import (
    MobileNetV3,
    mobilenet_v3_large,
    mobilenet_v3_large_classifier,
    mobilenet_v3_small,
    mobilenet_v3_small_classifier,
)
from flyweight.models.backbones.resnet import RESNET_CLASSIFIERS, RESNETS, ResNet
from flyweight.models.backbones.shufflenet_v1 import (
    SHUFFLENET_V1_CLASSIFIERS,
    SHUFFLENETS_V1,
    ShuffleNetV1,
)
from flyweight.models.backbones.shufflenet_v2 import (
    ShuffleNetV2,
    shufflenet_v2,
    shufflenet_v2_classifier,
)
from flyweight.models.backbones.snet import SNET_CLASSIFIERS, SNETS
from flyweight.models.backbones.squeezenet import (
    SQUEEZENET_CLASSIFIERS,
    SQUEEZENETS,
    SqueezeNet,
)
from flyweight.models.backbones.vgg import VGG16, vgg16_classifier

__all__ = [
    "BACKBONES",
    "CLASSIFIERS",
    "VGG16",
    "Backbone",
    "CSPDarknet53",
    "Classifier",
    "Darknet53",
    "DocumentNet",
    "FeatureInfo",
    "GhostNet",
    "MobileNetV1",
    "MobileNetV2",
    "MobileNetV3",
    "ResNet",
    "ShuffleNetV1",
    "ShuffleNetV2",
    "SqueezeNet",
    "build_backbone",
    "build_classifier",
]

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v2": MobileNetV2,
    "mobilenet_v3_large": mobilenet_v3_large,
    "mobilenet_v3_small": mobilenet_v3_small,
    **SHUFFLENETS_V1,
    "shufflenet_v2": shufflenet_v2,
    **SNETS,
    **SQUEEZENETS,
    "ghostnet": GhostNet,
    **RESNETS,
    "vgg16": VGG16,
    "darknet53": Darknet53,
    "cspdarknet53": CSPDarknet53,
    "document_net": DocumentNet,
}

CLASSIFIERS: dict[str, Callable[..., Classifier]] = {
    "mobilenet_v1": mobilenet_v1_classifier,
    "mobilenet_v2": mobilenet_v2_classifier,
    "mobilenet_v3_large": mobilenet_v3_large_classifier,
    "mobilenet_v3_small": mobilenet_v3_small_classifier,
    **SHUFFLENET_V1_CLASSIFIERS,
    "shufflenet_v2": shufflenet_v2_classifier,
    **SNET_CLASSIFIERS,
    **SQUEEZENET_CLASSIFIERS,
    "ghostnet": ghostnet_classifier,
    **RESNET_CLASSIFIERS,
    "vgg16": vgg16_classifier,
    "darknet53": darknet53_classifier,
    "cspdarknet53": cspdarknet53_classifier,
    "document_net": document_net_classifier,
}


def build_backbone(
    name: str, *, outputs: str | Sequence[str] = "stages", width: float = 1.0, **options: Any
) -> Backbone:
    """A freshly initialised backbone whose `forward` gives the levels of its `feature_info`.

    Args:
        name: a key of BACKBONES.
        outputs: "stages" (C2 to C5), "ssdlite" (the two levels SSDlite reads), "classifier", a
            set of the family's own ("ssd" of VGG-16, "pyramid" of document_net), or level names.
        width: width multiplier α.
        options: `norm` (a factory, or None for convolutions with bias), and what the family takes
            beside: `reduced_tail` of MobileNetV3, `atrous` of VGG-16, `padded` of SqueezeNet,
            `act` of MobileNetV1 and the Darknets.
    """
    _check_width(width)
    return _find(name, BACKBONES)(outputs=outputs, width=width, **options)


def build_classifier(
    name: str, *, num_classes: int = 1000, width: float = 1.0, **options: Any
) -> Classifier:
    """A freshly initialised classifier over the backbone `name` (a key of CLASSIFIERS)."""
    _check_width(width)
    return _find(name, CLASSIFIERS)(num_classes=num_classes, width=width, **options)


def _find(name: str, table: dict[str, Callable[..., Any]]) -> Callable[..., Any]:
    if name not in table:
        near = get_close_matches(name, table, n=3) or list(table)
        raise InputError(
            f"unknown backbone {name!r}", where="backbone", fix=f"did you mean {', '.join(near)}?"
        )
    return table[name]


def _check_width(width: float) -> None:
    if not 0 < width < float("inf"):
        raise InputError(
            f"a backbone cannot be {width:g} times as wide",
            where="width",
            fix="give a number above 0",
        )
