"""Box arithmetic in numpy. Boxes are float `xyxy` in continuous pixel coordinates.

A box that covers the whole of a 10 x 10 image is `0, 0, 10, 10`. Other forms carry their name:
`boxes_xywh` (corner and size), `boxes_cxcywh` (centre and size).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


def box_area(boxes_xyxy: Array) -> Array:
    """Areas `[N]` of `boxes_xyxy [N, 4]`, in square pixels; inverted boxes have area 0."""
    sides = np.maximum(boxes_xyxy[..., 2:] - boxes_xyxy[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def box_intersection(a_xyxy: Array, b_xyxy: Array) -> Array:
    """Areas `[N, M]` common to each of `a_xyxy [N, 4]` and each of `b_xyxy [M, 4]`."""
    low = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    sides = np.maximum(high - low, 0)
    return sides[..., 0] * sides[..., 1]


def box_iou(a_xyxy: Array, b_xyxy: Array) -> Array:
    """Intersection over union `[N, M]` of `a_xyxy [N, 4]` with `b_xyxy [M, 4]`; 0 if empty."""
    common = box_intersection(a_xyxy, b_xyxy)
    union = box_area(a_xyxy)[:, None] + box_area(b_xyxy)[None, :] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def clip_boxes(boxes_xyxy: Array, size_hw: tuple[int, int]) -> Array:
    """`boxes_xyxy [N, 4]` cut at the borders of an image of `size_hw` pixels."""
    height, width = size_hw
    limit = np.array([width, height, width, height], dtype=boxes_xyxy.dtype)
    return np.clip(boxes_xyxy, 0, limit)


def xywh_to_xyxy(boxes_xywh: Array) -> Array:
    """Top-left corner and size `[N, 4]` to `xyxy [N, 4]`."""
    return np.concatenate([boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes_xyxy: Array) -> Array:
    """`xyxy [N, 4]` to top-left corner and size `[N, 4]`."""
    return np.concatenate([boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]], axis=-1)


def cxcywh_to_xyxy(boxes_cxcywh: Array) -> Array:
    """Centre and size `[N, 4]` to `xyxy [N, 4]`."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def xyxy_to_cxcywh(boxes_xyxy: Array) -> Array:
    """`xyxy [N, 4]` to centre and size `[N, 4]`."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def transform_boxes(boxes_xyxy: Array, matrix: Array) -> Array:
    """Hulls `[N, 4]` of `boxes_xyxy [N, 4]` after the affine `matrix` (`[2, 3]` or `[3, 3]`).

    For a matrix without rotation or shear the hull is the box itself.
    """
    (xx, xy, shift_x), (yx, yy, shift_y) = matrix[:2].tolist()
    if xy == 0 and yx == 0 and yy >= 0:
        columns = boxes_xyxy if xx >= 0 else boxes_xyxy[:, (2, 1, 0, 3)]
        moved = columns * (xx, yy, xx, yy) + (shift_x, shift_y, shift_x, shift_y)
        return np.asarray(moved, dtype=boxes_xyxy.dtype)
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    centre, half = (low + high) / 2, (high - low) / 2
    linear = matrix[:2, :2]
    centre = centre @ linear.T + (shift_x, shift_y)
    half = half @ np.abs(linear).T
    return np.concatenate([centre - half, centre + half], axis=1).astype(boxes_xyxy.dtype)
