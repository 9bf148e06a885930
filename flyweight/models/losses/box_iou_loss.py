"""Losses of boxes by how they overlap: one minus the measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from flyweight.models.losses.ciou import ciou
from flyweight.models.losses.diou import diou
from flyweight.models.losses.giou import giou
from flyweight.models.losses.iou import EPS, iou

BoxLossKind = Literal["iou", "giou", "diou", "ciou"]

MEASURES: dict[str, Callable[..., Tensor]] = {
    "iou": iou,
    "giou": giou,
    "diou": diou,
    "ciou": ciou,
}


def iou_loss(
    boxes_xyxy: Tensor, targets_xyxy: Tensor, *, kind: BoxLossKind = "giou", eps: float = EPS
) -> Tensor:
    """One minus the IoU, GIoU, DIoU or CIoU of each pair, `[...]`.

    Args:
        boxes_xyxy: `[..., 4]`.
        targets_xyxy: `[..., 4]`, in the same unit.
        kind: the measure.
        eps: of what is divided by, in that unit squared.
    """
    return 1 - MEASURES[kind](boxes_xyxy, targets_xyxy, eps=eps)
