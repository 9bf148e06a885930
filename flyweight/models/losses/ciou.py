"""Complete intersection over union (Zheng et al. 2020, https://arxiv.org/abs/1911.08287)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flyweight.models.losses.diou import diou
from flyweight.models.losses.iou import EPS, iou


def ciou(boxes_xyxy: Tensor, targets_xyxy: Tensor, *, eps: float = EPS) -> Tensor:
    """`DIoU - αv`, `[...]` (equations 8 to 11): v is the disagreement of the aspect ratios,
    `(4/π²) (atan(w'/h') - atan(w/h))²`, and α its weight, `v / (1 - IoU + v)`, a constant.

    Args:
        boxes_xyxy: `[..., 4]`.
        targets_xyxy: `[..., 4]`, in the same unit.
        eps: of what is divided by, in that unit squared.
    """
    boxes, targets = boxes_xyxy.float(), targets_xyxy.float()
    box_angle, box_has_area = _angle(boxes)
    target_angle, target_has_area = _angle(targets)
    disagreement = torch.where(
        box_has_area & target_has_area, (4 / math.pi**2) * (target_angle - box_angle) ** 2, 0.0
    )
    with torch.no_grad():
        weight = disagreement / (1 - iou(boxes, targets, eps=eps) + disagreement + eps)
    return diou(boxes, targets, eps=eps) - weight * disagreement


def _angle(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """`atan(w / h)` `[...]`, and bool `[...]`: a box without area has no aspect ratio."""
    width, height = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).unbind(-1)
    has_area = (width > 0) & (height > 0)
    # Replaced before the division: a gradient through 0 / 0 is NaN even where it is masked later.
    return torch.atan(width / torch.where(has_area, height, 1.0)), has_area
