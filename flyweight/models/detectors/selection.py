"""From the dense outputs of a batch to its detections."""

from __future__ import annotations

from torch import Tensor

from flyweight.core.manifest import Thresholds
from flyweight.models.ops.nms import select_detections


def select_batch(
    boxes_xyxy: Tensor, scores: Tensor, thresholds: Thresholds
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Thresholds and NMS of every image.

    Args:
        boxes_xyxy: `[B, A, 4]` pixels.
        scores: `[B, A, C]`, without background.
        thresholds: which to keep.

    Returns:
        Of each image `boxes_xyxy [K, 4]`, `scores [K]`, `labels [K]`, best score first.
    """
    return [
        select_detections(boxes, each, **thresholds.selection())
        for boxes, each in zip(boxes_xyxy, scores, strict=True)
    ]
