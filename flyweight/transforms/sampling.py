"""The one resampling: pixels of the picture to pixels of the network's input by one matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import transform_boxes
from flyweight.core.preprocessing import resize_image
from flyweight.transforms.geometry import Matrix, scaling, translation

Image = npt.NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]


def common(first: Rectangle, second: Rectangle) -> Rectangle | None:
    """What two rectangles share; None when that is nothing."""
    left, top = max(first[0], second[0]), max(first[1], second[1])
    right, bottom = min(first[2], second[2]), min(first[3], second[3])
    return (left, top, right, bottom) if left < right and top < bottom else None


class ResizeImage(Protocol):
    """RGB uint8 `[H, W, 3]` to `[h, w, 3]` of `size_hw`."""

    def __call__(self, image: Image, size_hw: tuple[int, int], /) -> Image: ...


def supersample(image: Image, size_hw: tuple[int, int]) -> Image:
    """As core's `resize_image`, but three times as fast where it would average over areas.

    What shrinks two to four times is sampled bilinearly at twice the size, then each two pixels
    are averaged. On photographs that is 1.6 levels (root mean square) from the area's mean, which
    is itself 2.5 from the antialiased bilinear resize of Pillow and torchvision; only patterns as
    fine as single pixels stay, as they do when something shrinks less than twice.
    """
    height, width = image.shape[:2]
    if not 2 < max(height / size_hw[0], width / size_hw[1]) <= 4:
        return resize_image(image, size_hw)
    twice_hw = (
        size_hw[0] * (2 if height > 2 * size_hw[0] else 1),
        size_hw[1] * (2 if width > 2 * size_hw[1] else 1),
    )
    return resize_image(resize_image(image, twice_hw), size_hw)


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

    def sample(self, picture: Image, resize: ResizeImage = resize_image) -> Image:
        """Resample RGB uint8 `[H, W, 3]` to the target's `[h, w, 3]`; never a view of `picture`."""
        left, top, right, bottom = self.source_xyxy
        target = self.target_xyxy
        size_hw = (target[3] - target[1], target[2] - target[0])
        part = resize(picture[top:bottom, left:right], size_hw)
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
    (scale_x, shear_x, shift_x), (shear_y, scale_y, shift_y) = matrix[:2].tolist()
    if shear_x or shear_y or scale_y <= 0 or scale_x == 0:
        raise ValueError(f"the matrix has rotation, shear or is degenerate: {matrix.tolist()}")
    height, width = source_hw
    left, top, right, bottom = window_xyxy
    mirrored = scale_x < 0
    if mirrored:
        # Mirrored about the window's middle, x is an ordinary axis; undone below.
        scale_x, shift_x = -scale_x, left + right - shift_x
    across = _place_axis(scale_x, shift_x, width, (left, right))
    down = _place_axis(scale_y, shift_y, height, (top, bottom))
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


@dataclass(frozen=True)
class Warp:
    """Where a turned or sheared picture goes in the output.

    Attributes:
        target_xyxy: rectangle of the output that holds all that is seen of the picture, pixels.
        matrix: `[3, 3]`, pixels of the picture to pixels of the output.
    """

    target_xyxy: Rectangle
    matrix: Matrix

    def sample(self, picture: Image, resize: ResizeImage = resize_image) -> Image:
        """Resample RGB uint8 `[H, W, 3]` to the target's `[h, w, 3]`, bilinearly.

        Beyond the picture's edges its last pixels are repeated; `mask` tells where that is.
        """
        height, width = picture.shape[:2]
        scale_x, scale_y = np.hypot(*self.matrix[:2, :2])
        if min(scale_x, scale_y) < 1 / 2.01:
            # Bilinear would skip pixels and alias: averaged first to about the output's scale.
            reduced_hw = (
                max(1, math.ceil(height * min(scale_y, 1))),
                max(1, math.ceil(width * min(scale_x, 1))),
            )
            picture = resize(picture, reduced_hw)
        matrix = self.matrix @ scaling(width / picture.shape[1], height / picture.shape[0])
        return self._warp(picture, matrix, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)

    def mask(self, source_hw: tuple[int, int]) -> Image:
        """`[h, w]` of the target: 255 where its pixels' centres lie in the picture, else 0."""
        whole = np.full(source_hw, 255, dtype=np.uint8)
        return self._warp(whole, self.matrix, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)

    def _warp(self, picture: Image, matrix: Matrix, interpolation: int, border: int) -> Image:
        left, top, right, bottom = self.target_xyxy
        # OpenCV's coordinates are those of pixel centres.
        centred = translation(-0.5 - left, -0.5 - top) @ matrix @ translation(0.5, 0.5)
        size_wh = (right - left, bottom - top)
        warped = cv2.warpAffine(
            picture, centred[:2], size_wh, flags=interpolation, borderMode=border
        )
        return np.asarray(warped, dtype=np.uint8)


def warp(matrix: Matrix, source_hw: tuple[int, int], window_xyxy: Rectangle) -> Warp | None:
    """The target of a `matrix [3, 3]` with rotation or shear, arguments as those of `place`.

    Returns:
        None when the hull of the moved picture misses the window.
    """
    whole = np.array([[0, 0, source_hw[1], source_hw[0]]], dtype=np.float64)
    left, top, right, bottom = transform_boxes(whole, matrix)[0].tolist()
    target = (
        max(math.floor(left), window_xyxy[0]),
        max(math.floor(top), window_xyxy[1]),
        min(math.ceil(right), window_xyxy[2]),
        min(math.ceil(bottom), window_xyxy[3]),
    )
    return Warp(target, matrix) if target[0] < target[2] and target[1] < target[3] else None


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
