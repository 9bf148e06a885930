"""Features of regions of interest: RoIAlign (He et al. 2017, Mask R-CNN, section 3) over the levels
of a pyramid, and RoIPool (Girshick 2015, Fast R-CNN, section 2.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import roi_align, roi_pool

from flyweight.models.ops.pyramid_levels import fpn_level

# B images, R regions of all images, K channels, L levels

RoIKind = Literal["align", "pool"]


def image_rois(boxes_xyxy: Tensor | Sequence[Tensor]) -> Tensor:
    """Regions `[R, 5]`, the index of the image and `xyxy`.

    Args:
        boxes_xyxy: `[B, N, 4]` pixels, or of each image its `[N_i, 4]`.
    """
    if isinstance(boxes_xyxy, Tensor):
        images, boxes, _ = boxes_xyxy.shape
        flat = boxes_xyxy.flatten(0, 1)
        index = torch.arange(images, device=flat.device).repeat_interleave(boxes)
    else:
        flat = torch.cat(list(boxes_xyxy))
        index = torch.cat(
            [flat.new_full((len(each),), image) for image, each in enumerate(boxes_xyxy)]
        )
    return torch.cat((index.to(flat.dtype).unsqueeze(1), flat), dim=1)


def multi_scale_roi_align(
    features: Sequence[Tensor],
    rois: Tensor | Sequence[Tensor],
    strides: Sequence[int],
    *,
    size: int = 7,
    sampling_ratio: int = 2,
    kind: RoIKind = "align",
    k0: int = 4,
    canonical: float = 224.0,
    static: bool = False,
) -> Tensor:
    """Each region from the one level that its size calls for (FPN, Lin et al. 2017, equation 1).

    Args:
        features: of each level `[B, K, H, W]`, finest first.
        rois: `[R, 5]` (index of the image, `xyxy` in pixels of the input), `[B, N, 4]`, or of each
            image its `[N_i, 4]`.
        strides: of each level, powers of two; k is log₂ of the stride.
        size: cells of a side of the result.
        sampling_ratio: points of a side of a cell that RoIAlign looks at.
        kind: "pool" for RoIPool, the ancestor's.
        k0: the level of a region of the canonical size.
        canonical: side of a square region, pixels.
        static: every level pools every region and a mask chooses: L times the work, but shapes
            that no region's size changes, for graphs that are exported.

    Returns:
        `[R, K, size, size]`, in the order of `rois`.
    """
    if len(features) != len(strides):
        raise ValueError(f"{len(features)} levels of features, but {len(strides)} strides")
    if not isinstance(rois, Tensor) or rois.dim() == 3:
        rois = image_rois(rois)
    if len(features) == 1:
        return _pool(features[0], rois, strides[0], size, sampling_ratio, kind)
    k_min, k_max = round(math.log2(strides[0])), round(math.log2(strides[-1]))
    level = fpn_level(rois[:, 1:], k0=k0, canonical=canonical, k_min=k_min, k_max=k_max) - k_min
    if static:
        pooled = rois.new_zeros(())
        for index, (feature, stride) in enumerate(zip(features, strides, strict=True)):
            here = (level == index).view(-1, 1, 1, 1)
            of_level = _pool(feature, rois, stride, size, sampling_ratio, kind)
            pooled = torch.where(here, of_level, pooled)
        return pooled
    # Sorted by level, so that the device is waited for once and not for each level.
    order = torch.argsort(level, stable=True)
    levels = torch.arange(len(features), device=level.device)
    counts: list[int] = (level.unsqueeze(1) == levels).sum(0).tolist()
    parts = [
        _pool(feature, each, stride, size, sampling_ratio, kind)
        for feature, each, stride in zip(features, rois[order].split(counts), strides, strict=True)
    ]
    return torch.cat(parts)[torch.argsort(order)]


def _pool(
    feature: Tensor, rois: Tensor, stride: int, size: int, sampling_ratio: int, kind: RoIKind
) -> Tensor:
    """`[R, K, size, size]` of one level."""
    # Coordinates of half precision are off by pixels: the features go up, not the boxes down.
    wide = feature.to(rois.dtype)
    if kind == "pool":
        pooled = roi_pool(wide, rois, (size, size), spatial_scale=1 / stride)
    else:
        pooled = roi_align(
            wide, rois, (size, size), spatial_scale=1 / stride, sampling_ratio=sampling_ratio
        )
    return pooled.to(feature.dtype)
