"""Box arithmetic in torch. Boxes are float `xyxy` pixels.

The operations are those of torchvision's `box_iou`, in the same order, so that a matcher built on
them breaks ties as torchvision's does; here they also work over batches.
"""

from __future__ import annotations

import torch
from torch import Tensor

# B images, N, M boxes


def box_area(boxes_xyxy: Tensor) -> Tensor:
    """Areas `[..., N]` of `boxes_xyxy [..., N, 4]`, square pixels."""
    return (boxes_xyxy[..., 2] - boxes_xyxy[..., 0]) * (boxes_xyxy[..., 3] - boxes_xyxy[..., 1])


@torch.no_grad()
def box_intersection(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Areas `[..., N, M]` common to `a_xyxy [..., N, 4]` and `b_xyxy [..., M, 4]`; for matching, as
    `box_iou`."""
    # In place, one coordinate at a time: no [..., N, M, 2] temporaries, half the memory traffic.
    a, b = a_xyxy.unsqueeze(-2), b_xyxy.unsqueeze(-3)
    width = torch.minimum(a[..., 2], b[..., 2]).sub_(torch.maximum(a[..., 0], b[..., 0]))
    height = torch.minimum(a[..., 3], b[..., 3]).sub_(torch.maximum(a[..., 1], b[..., 1]))
    return width.clamp_(min=0).mul_(height.clamp_(min=0))


@torch.no_grad()
def box_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Intersection over union `[..., N, M]` of `a_xyxy [..., N, 4]` and `b_xyxy [..., M, 4]`.

    For matching: leading dimensions broadcast, no gradient flows. A pair of boxes without area
    gives 0, never NaN.
    """
    common = box_intersection(a_xyxy, b_xyxy)
    union = box_area(a_xyxy).unsqueeze(-1) + box_area(b_xyxy).unsqueeze(-2)
    union.sub_(common)
    return common.div_(union).nan_to_num_(nan=0.0)
