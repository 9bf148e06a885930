"""Class-aware non-maximum suppression and the choice of detections, in torch."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms

# A anchors, C classes, N candidates, K detections


def class_aware_nms(
    boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float
) -> Tensor:
    """Greedy NMS among boxes of one label, all labels at once.

    Args:
        boxes_xyxy: `[N, 4]` pixels.
        scores: `[N]`.
        labels: `[N]`; boxes of different labels never suppress each other.
        iou_threshold: IoU above which the lower score falls.

    Returns:
        Indices kept, best score first.
    """
    return batched_nms(boxes_xyxy, scores, labels, iou_threshold)


def top_candidates(scores: Tensor, *, score_threshold: float, per_class: int) -> tuple[Tensor, ...]:
    """The best `per_class` anchors of each class whose score is above `score_threshold`.

    Args:
        scores: `[A, C]`.

    Returns:
        `scores [N]`, `anchors [N]`, `labels [N]`, int64 where indices.
    """
    anchors, labels = torch.nonzero(scores > score_threshold, as_tuple=True)
    values = scores[anchors, labels]
    if len(values) <= per_class:
        return values, anchors, labels
    # By score, then stably by class: a candidate's rank is its place after its class's first.
    order = torch.argsort(values, descending=True, stable=True)
    order = order[torch.argsort(labels[order], stable=True)]
    counts = torch.bincount(labels, minlength=scores.shape[1])
    starts = torch.cumsum(counts, 0) - counts
    rank = torch.arange(len(order), device=scores.device) - starts[labels[order]]
    chosen = order[rank < per_class]
    return values[chosen], anchors[chosen], labels[chosen]


def select_detections(
    boxes_xyxy: Tensor,
    scores: Tensor,
    *,
    score_threshold: float,
    iou_threshold: float,
    candidates_per_class: int,
    max_detections: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """From the dense outputs of one image to its detections (SSD, Liu et al. 2016, section 3.1).

    The same rule as `flyweight.core.nms.select_detections`, which needs no torch.

    Args:
        boxes_xyxy: `[A, 4]` pixels.
        scores: `[A, C]`, without background.

    Returns:
        `boxes_xyxy [K, 4]`, `scores [K]`, `labels [K]`, best score first.
    """
    values, anchors, labels = top_candidates(
        scores, score_threshold=score_threshold, per_class=candidates_per_class
    )
    boxes = boxes_xyxy[anchors]
    keep = class_aware_nms(boxes, values, labels, iou_threshold)[:max_detections]
    return boxes[keep], values[keep], labels[keep]
