"""YOLO's loss: version 3 (https://arxiv.org/abs/1804.02767, sections 2.1 and 2.2) and version 4
(https://arxiv.org/abs/2004.10934, section 3.4)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from flyweight.models.losses.batch_count import mean_over_processes
from flyweight.models.losses.box_iou_loss import MEASURES
from flyweight.models.losses.label_smoothing import smooth_targets

# B images, A anchors, C classes without background

YOLOBoxLoss = Literal["iou", "giou", "diou", "ciou", "offsets"]
Normalisation = Literal["positives", "images"]


def yolo_loss(
    boxes_xyxy: Tensor,
    objectness: Tensor,
    class_logits: Tensor,
    target_boxes_xyxy: Tensor,
    target_classes: Tensor,
    *,
    kind: YOLOBoxLoss = "ciou",
    offsets: Tensor | None = None,
    target_offsets: Tensor | None = None,
    box_scale: Tensor | None = None,
    label_smoothing: float = 0.0,
    box_weight: float = 1.0,
    objectness_weight: float = 1.0,
    class_weight: float = 1.0,
    normalisation: Normalisation = "positives",
) -> dict[str, Tensor]:
    """Box loss and classes of the positive anchors, objectness of all that are not ignored.

    Each is a sum over anchors. Version 3 is `kind="offsets"`; version 4 is "ciou" with
    `label_smoothing`, and `box_weight=0.07` in its cfg.

    Args:
        boxes_xyxy: `[B, A, 4]` pixels, decoded; not read for "offsets".
        objectness: logits `[B, A]`.
        class_logits: `[B, A, C]`, a sigmoid for each class.
        target_boxes_xyxy: `[B, A, 4]` pixels, read only where an anchor is positive.
        target_classes: int64 `[B, A]`, the class from 0, -1 for background, -2 for ignored: there
            the prediction overlaps an object well, yet another anchor answers for it.
        kind: which overlap, or version 3's loss of the offsets.
        offsets: raw `(t_x, t_y, t_w, t_h)` `[B, A, 4]`, for "offsets".
        target_offsets: `[B, A, 4]`, finite everywhere: the place in the cell, 0 to 1, and the
            logarithms of the sizes; for "offsets".
        box_scale: `[B, A]`, weights of the anchors' box losses; Darknet's version 3 has
            `2 - w·h` of the object, with w and h as shares of the input.
        label_smoothing: ε of the classes.
        box_weight, objectness_weight, class_weight: factors of the three.
        normalisation: divide by the positives of the batch, or by its images as Darknet does.

    Returns:
        `box`, `objectness` and `class`, scalars.
    """
    positive = target_classes >= 0
    if kind != "offsets":
        box = 1 - MEASURES[kind](boxes_xyxy, target_boxes_xyxy)
    elif offsets is None or target_offsets is None:
        raise ValueError('kind="offsets" needs offsets and target_offsets')
    else:
        box = offset_terms(offsets, target_offsets)
    if box_scale is not None:
        box = box * box_scale
    objects = functional.binary_cross_entropy_with_logits(
        objectness.float(), positive.float(), reduction="none"
    )
    columns = torch.arange(class_logits.shape[-1], device=class_logits.device)
    one_hot = (target_classes.unsqueeze(-1) == columns).float()
    classes = functional.binary_cross_entropy_with_logits(
        class_logits.float(), smooth_targets(one_hot, smoothing=label_smoothing), reduction="none"
    ).sum(-1)
    count: Tensor | int = len(positive)
    if normalisation == "positives":
        count = mean_over_processes(positive.sum()).clamp(min=1)
    return {
        "box": box_weight * torch.where(positive, box, 0.0).sum() / count,
        "objectness": objectness_weight
        * torch.where(target_classes >= -1, objects, 0.0).sum()
        / count,
        "class": class_weight * torch.where(positive, classes, 0.0).sum() / count,
    }


def offset_terms(offsets: Tensor, target_offsets: Tensor) -> Tensor:
    """Version 3's box loss of each anchor, `[..., A]`, by its gradient: prediction minus truth.

    Half the squared error for `t_w, t_h`. The place in the cell goes through a sigmoid; the loss
    whose gradient is still that difference is the cross entropy, which is what Darknet trains.

    Args:
        offsets: raw `(t_x, t_y, t_w, t_h)` `[..., A, 4]`.
        target_offsets: `[..., A, 4]`, the first two from 0 to 1.
    """
    offsets, target_offsets = offsets.float(), target_offsets.float()
    place = functional.binary_cross_entropy_with_logits(
        offsets[..., :2], target_offsets[..., :2], reduction="none"
    )
    size = 0.5 * (offsets[..., 2:] - target_offsets[..., 2:]) ** 2
    return place.sum(-1) + size.sum(-1)
