"""Faster R-CNN over ResNets, MobileNetV3, VGG-16 and any backbone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flyweight.models.detectors.faster_rcnn_config import FasterRCNNConfig
from flyweight.models.detectors.presets.retinanet import anchor_sizes

# Short side 800 and long side at most 1333, on a canvas of whole strides of 32.
PUBLISHED_CANVAS = (800, 1344)
RATIOS = (0.5, 1.0, 2.0)
SCALES = (32.0, 64.0, 128.0, 256.0, 512.0)


def faster_rcnn(
    *, num_classes: int, backbone: str = "resnet50", **changes: Any
) -> FasterRCNNConfig:
    """Faster R-CNN over any backbone."""
    config = FasterRCNNConfig(
        name="faster_rcnn",
        num_classes=num_classes,
        backbone=backbone,
        size_hw=(320, 320),
        # Lin et al. 2017, section 4.1: one scale a level, P2 to P6.
        anchor_sizes=anchor_sizes([(scale,) for scale in SCALES], ratios=RATIOS, whole_pixels=True),
    )
    return replace(config, **changes)


def faster_rcnn_resnet50_fpn(*, num_classes: int, **changes: Any) -> FasterRCNNConfig:
    """Faster R-CNN over ResNet-50 and a pyramid, as published: two stages, for servers."""
    return _published("resnet50", num_classes, changes)


def faster_rcnn_resnet101_fpn(*, num_classes: int, **changes: Any) -> FasterRCNNConfig:
    """Faster R-CNN over ResNet-101 and a pyramid: heavier than ResNet-50, and a little better."""
    return _published("resnet101", num_classes, changes)


def _published(backbone: str, num_classes: int, changes: dict[str, Any]) -> FasterRCNNConfig:
    options: dict[str, Any] = {
        "name": f"faster_rcnn_{backbone}_fpn",
        "backbone": backbone,
        "size_hw": PUBLISHED_CANVAS,
    }
    return faster_rcnn(num_classes=num_classes, **(options | changes))


def faster_rcnn_mobilenet_v3_large_320_fpn(*, num_classes: int, **changes: Any) -> FasterRCNNConfig:
    """Faster R-CNN over MobileNetV3-Large at 320 pixels: 150 proposals, the lightest published."""
    # torchvision's: two levels of stride 32 and one of 64, each with anchors of all scales.
    # Both of the first have the same stride, so that every region is pooled from the first.
    options: dict[str, Any] = {
        "name": "faster_rcnn_mobilenet_v3_large_320_fpn",
        "backbone": "mobilenet_v3_large",
        "size_hw": (320, 640),
        "levels": ("C5_first", "final"),
        "anchor_sizes": anchor_sizes([SCALES] * 3, ratios=RATIOS, whole_pixels=True),
        "rpn_candidates": 150,
        "proposals": 150,
        "rpn_score": 0.05,
    }
    return faster_rcnn(num_classes=num_classes, **(options | changes))


def faster_rcnn_vgg16(*, num_classes: int, **changes: Any) -> FasterRCNNConfig:
    """Faster R-CNN over VGG-16, one level and RoIPool: heavy, the ancestor."""
    # Ren et al. 2015, sections 3.1 and 3.3: conv5_3, three scales of anchors, short side 600 and
    # long side at most 1000, on whole strides of 16; 2,000 proposals in training, then 300. How
    # many enter NMS is the published code's.
    options: dict[str, Any] = {
        "name": "faster_rcnn_vgg16",
        "backbone": "vgg16",
        "backbone_norm": "none",
        "size_hw": (608, 1008),
        "levels": ("C4",),
        "neck": "none",
        "anchor_sizes": anchor_sizes([(128.0, 256.0, 512.0)], ratios=RATIOS, whole_pixels=True),
        "rpn_candidates_train": 12000,
        "rpn_candidates": 6000,
        "proposals_train": 2000,
        "proposals": 300,
        "roi_pool": "pool",
        "hidden_channels": 4096,
    }
    return faster_rcnn(num_classes=num_classes, **(options | changes))
