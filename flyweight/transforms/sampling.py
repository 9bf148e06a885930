"""The one resampling: pixels of the picture to pixels of the network's input by one matrix."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.core.preprocessing import resize_image
from flyweight.transforms.geometry import Matrix

Image = npt.NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class Placement:
    """Which pixels of a picture go where in the output, whole pixels on both sides.

    Attributes:
        source_xyxy: rectangle of the picture that is seen, pixels.
        target_xyxy: rectangle of the output that it covers, pixels.
        mirrored: left and right are exchanged.
        matrix: `[3, 3]`, picture to output, that takes one rectangle exactly to the other.
    """

    source_xyxy: Rectangle
    target_xyxy: Rectangle
    mirrored: bool
    matrix: Matrix

    def sample(self, picture: Image) -> Image:
        """Resample RGB uint8 `[H, W, 3]` to the target's `[h, w, 3]`; never a view of `picture`."""
        left, top, right, bottom = self.source_xyxy
        target = self.target_xyxy
        part = resize_image(
            picture[top:bottom, left:right], (target[3] - target[1], target[2] - target[0])
        )
        if self.mirrored:
            return np.asarray(cv2.flip(part, 1), dtype=np.uint8)
        return part.copy() if np.may_share_memory(part, picture) else part


def place(matrix: Matrix, source_hw: tuple[int, int], window_xyxy: Rectangle) -> Placement | None:
    """Fit a matrix without rotation or shear to the pixel grids of both sides.

    An edge of the rectangle in view is moved to the nearest whole pixel, by at most half a pixel
    of the picture where the window cuts it, half a pixel of the output where the picture ends;
    the returned matrix says so and boxes follow it exactly. With whole pixels a crop and one
    `cv2.resize` do what a warp does, at half the time, and can average where the picture shrinks.

    Args:
        matrix: `[3, 3]`, pixels of the picture to pixels of the output; x may be mirrored.
        source_hw: size of the picture.
        window_xyxy: part of the output that the picture may cover.

    Returns:
        None when no pixel of the picture is in the window.
    """
    if matrix[0, 1] or matrix[1, 0] or matrix[1, 1] <= 0 or matrix[0, 0] == 0:
        raise ValueError(f"the matrix has rotation, shear or is degenerate: {matrix.tolist()}")
    height, width = source_hw
    left, top, right, bottom = window_xyxy
    scale_x, shift_x = float(matrix[0, 0]), float(matrix[0, 2])
    mirrored = scale_x < 0
    if mirrored:
        # Mirrored about the window's middle, x is an ordinary axis; undone below.
        scale_x, shift_x = -scale_x, left + right - shift_x
    across = _place_axis(scale_x, shift_x, width, (left, right))
    down = _place_axis(float(matrix[1, 1]), float(matrix[1, 2]), height, (top, bottom))
    if across is None or down is None:
        return None
    (source_left, source_right), (target_left, target_right) = across
    (source_top, source_bottom), (target_top, target_bottom) = down
    scale_x = (target_right - target_left) / (source_right - source_left)
    shift_x = target_left - scale_x * source_left
    if mirrored:
        scale_x, shift_x = -scale_x, left + right - shift_x
        target_left, target_right = left + right - target_right, left + right - target_left
    scale_y = (target_bottom - target_top) / (source_bottom - source_top)
    shift_y = target_top - scale_y * source_top
    return Placement(
        (source_left, source_top, source_right, source_bottom),
        (target_left, target_top, target_right, target_bottom),
        mirrored,
        np.array([[scale_x, 0, shift_x], [0, scale_y, shift_y], [0, 0, 1]]),
    )


def _place_axis(
    scale: float, shift: float, length: int, window: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Whole-pixel ranges (source, target) in view along one axis; None when nothing is."""
    low = max(0.0, (window[0] - shift) / scale)
    high = min(float(length), (window[1] - shift) / scale)
    if high <= low:
        return None
    source = _whole_range(low, high, (0, length))
    target = _whole_range(scale * low + shift, scale * high + shift, window)
    return source, target


def _whole_range(low: float, high: float, limits: tuple[int, int]) -> tuple[int, int]:
    """The nearest range of whole numbers within `limits` that is not empty."""
    start = min(max(round(low), limits[0]), limits[1] - 1)
    return start, max(min(round(high), limits[1]), start + 1)
