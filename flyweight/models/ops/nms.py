"""Class-aware non-maximum suppression and the choice of detections, in torch.

Greedy NMS is torchvision's. DIoU-NMS and Soft-NMS go box by box, each step waiting for the last,
which is no work for a GPU: their candidates are handed to the same code that predictors run.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from flyweight.core import nms as numpy_nms
from flyweight.core.nms import SIGMA, HardNms, NmsKind, SoftNms

# A anchors, C classes, N candidates, K detections


def class_aware_nms(
    boxes_xyxy: Tensor,
    scores: Tensor,
    labels: Tensor,
    iou_threshold: float,
    *,
    kind: HardNms = "greedy",
) -> Tensor:
    """NMS among boxes of one label, all labels at once.

    Args:
        boxes_xyxy: `[N, 4]` pixels.
        scores: `[N]`.
        labels: `[N]`; boxes of different labels never suppress each other.
        iou_threshold: overlap above which the lower score falls.
        kind: "greedy" measures overlap by IoU; "diou" by IoU less the distance of the centres
            (Zheng et al. 2020, https://arxiv.org/abs/1911.08287, section 3.3).

    Returns:
        Indices kept, best score first.
    """
    if kind == "greedy":
        return batched_nms(boxes_xyxy, scores, labels, iou_threshold)
    keep = numpy_nms.class_aware_nms(*_arrays(boxes_xyxy, scores, labels), iou_threshold, kind=kind)
    return torch.from_numpy(keep).to(boxes_xyxy.device)


def soft_nms(
    boxes_xyxy: Tensor,
    scores: Tensor,
    labels: Tensor,
    iou_threshold: float,
    *,
    kind: SoftNms,
    score_threshold: float,
    sigma: float = SIGMA,
) -> tuple[Tensor, Tensor]:
    """Soft-NMS among boxes of one label (Bodla et al. 2017, https://arxiv.org/abs/1704.04503).

    Args:
        boxes_xyxy: `[N, 4]` pixels.
        scores: `[N]`.
        labels: `[N]`; boxes of different labels never lower each other.
        iou_threshold: from this IoU on "soft_linear" multiplies scores by 1 - IoU.
        kind: "soft_gaussian" multiplies by `exp(-IoU² / σ)`, whatever the IoU.
        score_threshold: boxes fall when their score is no longer above it.
        sigma: σ.

    Returns:
        Indices kept and their new scores, best first.
    """
    keep, lowered = numpy_nms.soft_nms(
        *_arrays(boxes_xyxy, scores, labels),
        iou_threshold,
        kind=kind,
        score_threshold=score_threshold,
        sigma=sigma,
    )
    device = boxes_xyxy.device
    return torch.from_numpy(keep).to(device), torch.from_numpy(lowered).to(device, scores.dtype)


def _arrays(
    boxes_xyxy: Tensor, scores: Tensor, labels: Tensor
) -> tuple[numpy_nms.Floats, numpy_nms.Floats, numpy_nms.Indices]:
    return (
        boxes_xyxy.detach().float().cpu().numpy(),
        scores.detach().float().cpu().numpy(),
        labels.cpu().numpy(),
    )


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
    kind: NmsKind = "greedy",
    sigma: float = SIGMA,
) -> tuple[Tensor, Tensor, Tensor]:
    """From the dense outputs of one image to its detections (SSD, Liu et al. 2016, section 3.1).

    The same rule as `flyweight.core.nms.select_detections`, which needs no torch.

    Args:
        boxes_xyxy: `[A, 4]` pixels.
        scores: `[A, C]`, without background.
        score_threshold: of the scores, and of those that Soft-NMS lowers.
        iou_threshold: overlap above which NMS drops the lower score.
        kind: of the NMS; with the soft ones, detections have their lowered scores.
        sigma: σ of "soft_gaussian".

    Returns:
        `boxes_xyxy [K, 4]`, `scores [K]`, `labels [K]`, best score first.
    """
    values, anchors, labels = top_candidates(
        scores, score_threshold=score_threshold, per_class=candidates_per_class
    )
    boxes = boxes_xyxy[anchors]
    if kind == "greedy" or kind == "diou":
        keep = class_aware_nms(boxes, values, labels, iou_threshold, kind=kind)[:max_detections]
        return boxes[keep], values[keep], labels[keep]
    keep, lowered = soft_nms(
        boxes,
        values,
        labels,
        iou_threshold,
        kind=kind,
        score_threshold=score_threshold,
        sigma=sigma,
    )
    keep, lowered = keep[:max_detections], lowered[:max_detections]
    return boxes[keep], lowered, labels[keep]
