"""Backbones: one family a file, every one with a width multiplier and published levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from flyweight.core.errors import InputError
from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.classifier import Classifier
from flyweight.models.backbones.feature_info import FeatureInfo
from flyweight.models.backbones.mobilenet_v1 import MobileNetV1, mobilenet_v1_classifier
from flyweight.models.backbones.mobilenet_v2 import MobileNetV2, mobilenet_v2_classifier
from flyweight.models.backbones.mobilenet_v3 import (
    MobileNetV3,
    mobilenet_v3_large,
    mobilenet_v3_large_classifier,
    mobilenet_v3_small,
    mobilenet_v3_small_classifier,
)

__all__ = [
    "BACKBONES",
    "CLASSIFIERS",
    "Backbone",
    "Classifier",
    "FeatureInfo",
    "MobileNetV1",
    "MobileNetV2",
    "MobileNetV3",
    "build_backbone",
    "build_classifier",
]

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v2": MobileNetV2,
    "mobilenet_v3_large": mobilenet_v3_large,
    "mobilenet_v3_small": mobilenet_v3_small,
}

CLASSIFIERS: dict[str, Callable[..., Classifier]] = {
    "mobilenet_v1": mobilenet_v1_classifier,
    "mobilenet_v2": mobilenet_v2_classifier,
    "mobilenet_v3_large": mobilenet_v3_large_classifier,
    "mobilenet_v3_small": mobilenet_v3_small_classifier,
}


def build_backbone(
    name: str, *, outputs: str | Sequence[str] = "stages", width: float = 1.0, **options: Any
) -> Backbone:
    """A freshly initialised backbone whose `forward` gives the levels of its `feature_info`.

    Args:
        name: a key of BACKBONES.
        outputs: "stages" (C2 to C5), "ssdlite" (the two levels SSDlite reads), "classifier", or
            level names.
        width: width multiplier α.
        options: `norm`, and what the family takes beside (`reduced_tail` of MobileNetV3).
    """
    return _find(name, BACKBONES)(outputs=outputs, width=width, **options)


def build_classifier(
    name: str, *, num_classes: int = 1000, width: float = 1.0, **options: Any
) -> Classifier:
    """A freshly initialised classifier over the backbone `name` (a key of CLASSIFIERS)."""
    return _find(name, CLASSIFIERS)(num_classes=num_classes, width=width, **options)


def _find(name: str, table: dict[str, Callable[..., Any]]) -> Callable[..., Any]:
    if name not in table:
        near = get_close_matches(name, table, n=3) or list(table)
        raise InputError(
            f"unknown backbone {name!r}", where="backbone", fix=f"did you mean {', '.join(near)}?"
        )
    return table[name]
