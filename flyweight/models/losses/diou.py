"""Distance intersection over union (Zheng et al. 2020, https://arxiv.org/abs/1911.08287)."""

from __future__ import annotations

from torch import Tensor

from flyweight.models.losses.iou import EPS, enclosing_wh, iou


def diou(boxes_xyxy: Tensor, targets_xyxy: Tensor, *, eps: float = EPS) -> Tensor:
    """`IoU - ρ² / c²`, `[...]`, -1 to 1 (equations 6 and 7).

    ρ is the distance of the centres, c the diagonal of the smallest box around both.

    Args:
        boxes_xyxy: `[..., 4]`.
        targets_xyxy: `[..., 4]`, in the same unit.
        eps: of what is divided by, in that unit squared.
    """
    boxes, targets = boxes_xyxy.float(), targets_xyxy.float()
    width, height = enclosing_wh(boxes, targets)
    diagonal = width**2 + height**2 + eps
    between = (boxes[..., :2] + boxes[..., 2:] - targets[..., :2] - targets[..., 2:]) / 2
    distance = between[..., 0] ** 2 + between[..., 1] ** 2
    return iou(boxes, targets, eps=eps) - distance / diagonal
