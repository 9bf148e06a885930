"""Intersection over union of pairs of boxes, with a gradient (Yu et al. 2016, UnitBox)."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-7


def intersection_and_union(boxes_xyxy: Tensor, targets_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Areas `[...]` common to each pair of boxes `[..., 4]`, and covered by either."""
    width = torch.minimum(boxes_xyxy[..., 2], targets_xyxy[..., 2]) - torch.maximum(
        boxes_xyxy[..., 0], targets_xyxy[..., 0]
    )
    height = torch.minimum(boxes_xyxy[..., 3], targets_xyxy[..., 3]) - torch.maximum(
        boxes_xyxy[..., 1], targets_xyxy[..., 1]
    )
    # Not two clamps: boxes that only touch would still draw at each other by a side.
    common = torch.where((width > 0) & (height > 0), width * height, 0.0)
    union = _area(boxes_xyxy) + _area(targets_xyxy) - common
    return common, union


def iou(boxes_xyxy: Tensor, targets_xyxy: Tensor, *, eps: float = EPS) -> Tensor:
    """`|A ∩ B| / |A ∪ B|`, `[...]`, 0 to 1.

    Args:
        boxes_xyxy: `[..., 4]`.
        targets_xyxy: `[..., 4]`, in the same unit.
        eps: of the union, in that unit squared: two boxes without area have IoU 0.
    """
    common, union = intersection_and_union(boxes_xyxy.float(), targets_xyxy.float())
    return common / (union + eps)


def enclosing_wh(boxes_xyxy: Tensor, targets_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height `[...]` of the smallest box around each pair of boxes `[..., 4]`."""
    low = torch.minimum(boxes_xyxy[..., :2], targets_xyxy[..., :2])
    high = torch.maximum(boxes_xyxy[..., 2:], targets_xyxy[..., 2:])
    width, height = (high - low).unbind(-1)
    return width, height


def _area(boxes_xyxy: Tensor) -> Tensor:
    wh = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    return wh[..., 0] * wh[..., 1]
