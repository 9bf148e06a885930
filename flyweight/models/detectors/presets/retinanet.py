"""RetinaNet over ResNets and any backbone, and the slim one for documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flyweight.models.detectors.retinanet import RetinaNetConfig
from flyweight.models.ops.anchors import BoxSizes

# Short side 800 and long side at most 1333, on a canvas of whole strides of 32.
PUBLISHED_CANVAS = (800, 1344)


def retinanet(*, num_classes: int, backbone: str = "resnet50", **changes: Any) -> RetinaNetConfig:
    """RetinaNet over any backbone."""
    config = RetinaNetConfig(
        name="retinanet",
        num_classes=num_classes,
        backbone=backbone,
        size_hw=(320, 320),
        # Section 4: bases of 4 strides, three scales an octave; smaller ones at 320 pixels.
        anchor_sizes=anchor_sizes(
            [octave(base) for base in (16, 32, 64, 128, 256)], ratios=(0.5, 1.0, 2.0)
        ),
    )
    return replace(config, **changes)


def retinanet_resnet50_fpn(*, num_classes: int, **changes: Any) -> RetinaNetConfig:
    """RetinaNet over ResNet-50, as published: dense anchors and focal loss, for servers."""
    return _published("resnet50", num_classes, changes)


def retinanet_resnet101_fpn(*, num_classes: int, **changes: Any) -> RetinaNetConfig:
    """RetinaNet over ResNet-101: heavier than ResNet-50, and a little better."""
    return _published("resnet101", num_classes, changes)


def _published(backbone: str, num_classes: int, changes: dict[str, Any]) -> RetinaNetConfig:
    options: dict[str, Any] = {
        "name": f"retinanet_{backbone}_fpn",
        "backbone": backbone,
        "size_hw": PUBLISHED_CANVAS,
        "anchor_sizes": anchor_sizes(
            [octave(base) for base in (32, 64, 128, 256, 512)],
            ratios=(0.5, 1.0, 2.0),
            whole_pixels=True,
        ),
        "anchor_offset": 0.0,
        "integer_steps": True,
    }
    return retinanet(num_classes=num_classes, **(options | changes))


def retinanet_snet(*, num_classes: int, **changes: Any) -> RetinaNetConfig:
    """Slim RetinaNet for documents: 165 MMACs at 224 pixels, GroupNorm, one-by-one towers."""
    options: dict[str, Any] = {
        "name": "retinanet_snet",
        "backbone": "document_net",
        "size_hw": (224, 224),
        "levels": ("C4", "C5"),
        "neck_channels": 128,
        "neck_separable": True,
        "anchor_sizes": anchor_sizes(
            [(base, base * 2**0.5) for base in (32, 64, 112, 160)], ratios=(0.5, 1.0, 2.0)
        ),
        "tower_channels": (256, 256, 256),
        "tower_kernel": 1,
        "norm": "group",
        "backbone_norm": "group",
    }
    return retinanet(num_classes=num_classes, **(options | changes))


def octave(base: float) -> tuple[float, ...]:
    """Three scales of an octave, 2⁰, 2^⅓ and 2^⅔ times `base`; whole pixels as in torchvision."""
    return (base, int(base * 2 ** (1 / 3)), int(base * 2 ** (2 / 3)))


def anchor_sizes(
    scales_of_levels: Sequence[Sequence[float]],
    *,
    ratios: Sequence[float],
    whole_pixels: bool = False,
) -> BoxSizes:
    """(w, h) of each level's anchors: for each ratio h/w all scales, of equal area at one scale.

    Args:
        scales_of_levels: sides of the squares of each level, pixels.
        ratios: height over width.
        whole_pixels: half sides are rounded, as in the anchors of torchvision's weights.
    """

    def box(scale: float, ratio: float) -> tuple[float, float]:
        w, h = scale / ratio**0.5, scale * ratio**0.5
        return (2.0 * round(w / 2), 2.0 * round(h / 2)) if whole_pixels else (w, h)

    return tuple(
        tuple(box(scale, ratio) for ratio in ratios for scale in scales)
        for scales in scales_of_levels
    )
