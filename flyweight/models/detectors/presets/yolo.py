"""YOLOv3 and YOLOv4."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flyweight.models.detectors.yolo_config import YOLOConfig
from flyweight.models.ops.anchors import BoxSizes

# Pixels, levels finest first; by k-means on COCO (Redmon and Farhadi 2018, section 2.3).
YOLOV3_ANCHORS: BoxSizes = (
    ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
    ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
    ((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
)
YOLOV4_ANCHORS: BoxSizes = (
    ((12.0, 16.0), (19.0, 36.0), (40.0, 28.0)),
    ((36.0, 75.0), (76.0, 55.0), (72.0, 146.0)),
    ((142.0, 110.0), (192.0, 243.0), (459.0, 401.0)),
)

# Of BatchNorm, as in Darknet (`(x - mean) / (sqrt(variance) + 1e-6)`) and in OpenCV.
DARKNET_EPS = 1e-6


def yolov3(*, num_classes: int, backbone: str = "mobilenet_v2", **changes: Any) -> YOLOConfig:
    """YOLOv3 over any backbone, its 3×3 convolutions in light, separable form."""
    config = YOLOConfig(
        name="yolov3",
        num_classes=num_classes,
        backbone=backbone,
        size_hw=(416, 416),
        anchors=YOLOV3_ANCHORS,
        separable=True,
    )
    return replace(config, **changes)


def yolov3_darknet53(*, num_classes: int, **changes: Any) -> YOLOConfig:
    """YOLOv3 over Darknet-53, as published: Darknet's weights load; heavy."""
    options: dict[str, Any] = {
        "name": "yolov3_darknet53",
        "backbone": "darknet53",
        "separable": False,
        "norm_eps": DARKNET_EPS,
    }
    return yolov3(num_classes=num_classes, **(options | changes))


def yolov4(*, num_classes: int, backbone: str = "mobilenet_v2", **changes: Any) -> YOLOConfig:
    """YOLOv4's neck, matching and loss over any backbone, in light, separable form."""
    config = YOLOConfig(
        name="yolov4",
        num_classes=num_classes,
        backbone=backbone,
        size_hw=(416, 416),
        anchors=YOLOV4_ANCHORS,
        scale_xy=(1.2, 1.1, 1.05),
        neck="yolo_pan",
        separable=True,
        match_iou=0.213,
        box_loss="ciou",
        # Not the cfg's iou_normalizer of 0.07: Darknet multiplies by it the gradient for a centre
        # in shares of the input and a size in anchors of the input's width, which is not the
        # gradient of the offsets. That one is 4·38/1.1 = 138 times smaller for the centres of the
        # middle level, 608/76 = 8 times for the widths of its middle anchor: 0.07·√(138·8) = 2.3.
        box_weight=2.0,
    )
    return replace(config, **changes)


def yolov4_cspdarknet53(*, num_classes: int, **changes: Any) -> YOLOConfig:
    """YOLOv4 over CSPDarknet-53, as published: Darknet's weights load; heavy."""
    options: dict[str, Any] = {
        "name": "yolov4_cspdarknet53",
        "backbone": "cspdarknet53",
        "size_hw": (608, 608),
        "separable": False,
        "norm_eps": DARKNET_EPS,
    }
    return yolov4(num_classes=num_classes, **(options | changes))
