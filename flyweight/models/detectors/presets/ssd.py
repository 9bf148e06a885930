"""SSD300, MobileNet-SSD and SSDlite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flyweight.data.default_boxes import published_default_boxes
from flyweight.models.detectors.ssd import SSDConfig
from flyweight.models.ops.anchors import BoxSizes


def ssdlite(*, num_classes: int, backbone: str = "mobilenet_v2", **changes: Any) -> SSDConfig:
    """SSDlite over any backbone."""
    # Six levels of six boxes, sizes 0.2 to 0.95 of the input.
    config = SSDConfig(
        name="ssdlite",
        num_classes=num_classes,
        backbone=backbone,
        size_hw=(320, 320),
        default_boxes=as_box_sizes(published_default_boxes()),
    )
    return replace(config, **changes)


def ssdlite320_mobilenet_v1(*, num_classes: int, **changes: Any) -> SSDConfig:
    """SSDlite over MobileNetV1: plain depthwise separable layers, the easiest to run anywhere."""
    return _ssdlite320("mobilenet_v1", num_classes, changes)


def ssdlite320_mobilenet_v2(*, num_classes: int, **changes: Any) -> SSDConfig:
    """SSDlite over MobileNetV2: the usual choice; quantises well; ImageNet weights offline."""
    return _ssdlite320("mobilenet_v2", num_classes, changes)


def ssdlite320_mobilenet_v3_large(*, num_classes: int, **changes: Any) -> SSDConfig:
    """SSDlite over MobileNetV3-Large: the fewest operations for its accuracy."""
    return _ssdlite320("mobilenet_v3_large", num_classes, changes)


def ssdlite320_mobilenet_v3_small(*, num_classes: int, **changes: Any) -> SSDConfig:
    """SSDlite over MobileNetV3-Small: the smallest, for simple scenes and slow devices."""
    return _ssdlite320("mobilenet_v3_small", num_classes, changes)


def _ssdlite320(backbone: str, num_classes: int, changes: dict[str, Any]) -> SSDConfig:
    options = {"backbone": backbone, "name": f"ssdlite320_{backbone}"} | changes
    return ssdlite(num_classes=num_classes, **options)


def ssd(*, num_classes: int, backbone: str = "mobilenet_v1", **changes: Any) -> SSDConfig:
    """SSD with full 3×3 predictors over any backbone."""
    config = SSDConfig(
        name="ssd",
        num_classes=num_classes,
        backbone=backbone,
        size_hw=(300, 300),
        default_boxes=as_box_sizes(published_default_boxes()),
        extras=(512, 256, 256, 256),
        separable_extras=False,
        head="conv3x3",
        norm_eps=1e-5,
        norm_momentum=0.1,
    )
    return replace(config, **changes)


def ssd300_vgg16(*, num_classes: int, **changes: Any) -> SSDConfig:
    """SSD300 over VGG-16, as published: heavy, the ancestor."""
    # Liu et al. 2016, sections 3.1 and 3.4, with the steps of the published code and its sizes for
    # COCO, which torchvision's weights have too: 0.07, 0.15, 0.33 ... 1.05 of the input.
    levels = zip(
        (21, 45, 99, 153, 207, 261),
        (45, 99, 153, 207, 261, 315),
        ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        strict=True,
    )
    options: dict[str, Any] = {
        "name": "ssd300_vgg16",
        "backbone": "vgg16",
        "backbone_options": (("atrous", True),),
        "backbone_levels": "ssd",
        "backbone_norm": "none",
        "norm": "none",
        # torchvision's boxes are never wider or higher than the input.
        "default_boxes": tuple(
            tuple((min(w, 1.0), min(h, 1.0)) for w, h in prior_boxes(low, high, ratios, 300))
            for low, high, ratios in levels
        ),
        "steps": (8.0, 16.0, 32.0, 64.0, 100.0, 300.0),
        "valid_extras": 2,
        "l2_norm": True,
    }
    config = ssd(num_classes=num_classes, **options)
    size = changes.get("size_hw", config.size_hw)
    if tuple(size) != config.size_hw:
        # At another size the strides are the same; the last two levels have no strides there.
        changes = {"steps": None} | changes
    return replace(config, **changes)


def mobilenet_ssd300(*, num_classes: int, **changes: Any) -> SSDConfig:
    """MobileNet-SSD: MobileNetV1, 1×1 predictors, 1,917 boxes; runs in any framework."""
    # chuanqi305/MobileNet-SSD, the network that OpenCV and Caffe run.
    levels = zip(
        (60, 105, 150, 195, 240, 285),
        (None, 150, 195, 240, 285, 300),
        ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2, 3)),
        strict=True,
    )
    options: dict[str, Any] = {
        "name": "mobilenet_ssd300",
        "backbone_options": (("act", "relu"),),
        "extras": (512, 256, 256, 128),
        "head": "conv1x1",
        "default_boxes": tuple(prior_boxes(low, high, ratios, 300) for low, high, ratios in levels),
    }
    return ssd(num_classes=num_classes, **(options | changes))


def prior_boxes(
    min_size: float, max_size: float | None, aspect_ratios: Sequence[float], side: float
) -> tuple[tuple[float, float], ...]:
    """Default boxes of a level in Caffe's order: squares of `min_size` and √(min·max), then each
    aspect ratio and its inverse.

    Args:
        min_size, max_size: pixels of an input of `side`; without `max_size` one square only.

    Returns:
        (w, h) relative to the input.
    """
    sides = [min_size] if max_size is None else [min_size, math.sqrt(min_size * max_size)]
    boxes = [(each, each) for each in sides]
    for ratio in aspect_ratios:
        root = math.sqrt(ratio)
        boxes += [(min_size * root, min_size / root), (min_size / root, min_size * root)]
    return tuple((w / side, h / side) for w, h in boxes)


def as_box_sizes(default_boxes: Sequence[Sequence[tuple[float, float]]]) -> BoxSizes:
    """Boxes of levels as the hashable tuples that a config holds."""
    return tuple(tuple((float(w), float(h)) for w, h in level) for level in default_boxes)
