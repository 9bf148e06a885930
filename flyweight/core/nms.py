"""Non-maximum suppression in numpy, class-aware, for predictors that have no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import box_iou
from flyweight.core.detections import Detections

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


def nms(boxes_xyxy: Floats, scores: Floats, iou_threshold: float) -> Indices:
    """Greedy NMS: indices kept of `boxes_xyxy [N, 4]`, best `scores [N]` first.

    A box falls when its IoU with a better kept one is above `iou_threshold`.
    """
    return class_aware_nms(boxes_xyxy, scores, np.zeros(len(scores), np.int64), iou_threshold)


def class_aware_nms(
    boxes_xyxy: Floats, scores: Floats, labels: npt.NDArray[np.integer], iou_threshold: float
) -> Indices:
    """Greedy NMS among boxes of the same label, all classes in one pass.

    Args:
        boxes_xyxy: `[N, 4]` pixels.
        scores: `[N]`.
        labels: `[N]`; boxes of different labels never suppress each other.
        iou_threshold: overlap above which the lower score falls.

    Returns:
        Indices kept, best score first.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, classes = boxes_xyxy[order], labels[order]
    overlaps = (box_iou(boxes, boxes) > iou_threshold) & (classes[:, None] == classes[None, :])
    alive = np.ones(len(order), dtype=bool)
    for index in np.flatnonzero(np.triu(overlaps, 1).any(axis=1)):
        if alive[index]:
            alive[index + 1 :] &= ~overlaps[index, index + 1 :]
    return order[alive]


def select_detections(
    boxes_xyxy: Floats,
    scores: Floats,
    *,
    score_threshold: float,
    iou_threshold: float,
    candidates_per_class: int,
    max_detections: int,
) -> Detections:
    """From the dense outputs of one image to its detections, as SSD does it (Liu et al. 2016, 3.1).

    Per class the best `candidates_per_class` above `score_threshold`, class-aware NMS, then the
    best `max_detections` of all classes.

    Args:
        boxes_xyxy: `[A, 4]` pixels.
        scores: `[A, C]`, without background.
    """
    anchors, classes = np.nonzero(scores > score_threshold)
    values = scores[anchors, classes]
    if len(values) > candidates_per_class:
        order = np.lexsort((-values, classes))
        counts = np.bincount(classes, minlength=scores.shape[1])
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        rank = np.arange(len(order)) - np.repeat(starts, counts)
        chosen = order[rank < candidates_per_class]
        anchors, classes, values = anchors[chosen], classes[chosen], values[chosen]
    candidates = boxes_xyxy[anchors]
    keep = class_aware_nms(candidates, values, classes, iou_threshold)[:max_detections]
    return Detections(candidates[keep], values[keep], classes[keep])
