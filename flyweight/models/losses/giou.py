"""Generalised intersection over union (Rezatofighi et al. 2019, algorithm 1)."""

from __future__ import annotations

from torch import Tensor

from flyweight.models.losses.iou import EPS, enclosing_wh, intersection_and_union


def giou(boxes_xyxy: Tensor, targets_xyxy: Tensor, *, eps: float = EPS) -> Tensor:
    """`IoU - (|C| - |A ∪ B|) / |C|` with C the smallest box around both, `[...]`, -1 to 1.

    Boxes that do not overlap still have a gradient: towards each other.

    Args:
        boxes_xyxy: `[..., 4]`.
        targets_xyxy: `[..., 4]`, in the same unit.
        eps: of the areas divided by, in that unit squared.
    """
    boxes, targets = boxes_xyxy.float(), targets_xyxy.float()
    common, union = intersection_and_union(boxes, targets)
    width, height = enclosing_wh(boxes, targets)
    enclosing = width * height
    return common / (union + eps) - (enclosing - union) / (enclosing + eps)
