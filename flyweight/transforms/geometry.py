"""Geometric steps as matrices: what each does to coordinates; pixels are not touched here.

Coordinates are continuous: a picture of 10 x 10 pixels spans 0 to 10, the centre of its first
pixel is (0.5, 0.5). Matrices are `[3, 3]` float64 and take column vectors `(x, y, 1)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import transform_boxes

Matrix = npt.NDArray[np.float64]
Boxes = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Colour = tuple[int, int, int]

IDENTITY: Matrix = np.eye(3)
IDENTITY.flags.writeable = False


def translation(shift_x: float, shift_y: float) -> Matrix:
    """`[3, 3]` matrix that moves points by `(shift_x, shift_y)` pixels."""
    return np.array([[1, 0, shift_x], [0, 1, shift_y], [0, 0, 1]], dtype=np.float64)


def scaling(scale_x: float, scale_y: float) -> Matrix:
    """`[3, 3]` matrix that multiplies coordinates by `(scale_x, scale_y)`."""
    return np.array([[scale_x, 0, 0], [0, scale_y, 0], [0, 0, 1]], dtype=np.float64)


def mirroring(width: float) -> Matrix:
    """`[3, 3]` matrix that flips left and right on a canvas of `width` pixels."""
    return np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]], dtype=np.float64)


@dataclass(frozen=True)
class View:
    """What is seen of a picture: a canvas, and where the picture lies on it.

    Attributes:
        size_hw: height and width of the canvas, pixels.
        matrix: `[3, 3]`, pixels of the picture to pixels of the canvas.
        boxes_xyxy: `[G, 4]` float64 in pixels of the *picture*, those still in view.
        labels: `[G]` int64.
        fill: RGB of the canvas where the picture does not cover it; None for the padding's grey.
    """

    size_hw: tuple[int, int]
    matrix: Matrix
    boxes_xyxy: Boxes
    labels: Labels
    fill: Colour | None = None

    @staticmethod
    def of_picture(size_hw: tuple[int, int], boxes_xyxy: Boxes, labels: Labels) -> View:
        """The whole picture of `size_hw` with its `boxes_xyxy [G, 4]` and `labels [G]`."""
        return View(size_hw, IDENTITY, boxes_xyxy, labels)

    def canvas_boxes(self) -> Boxes:
        """The boxes as `xyxy [G, 4]` in pixels of the canvas, not clipped."""
        return np.asarray(transform_boxes(self.boxes_xyxy, self.matrix), dtype=np.float64)

    def then(self, matrix: Matrix, size_hw: tuple[int, int], *, fill: Colour | None = None) -> View:
        """The view after one more `matrix [3, 3]`, onto a canvas of `size_hw`; a `fill` given
        takes the place of the one before."""
        fill = self.fill if fill is None else fill
        return View(size_hw, matrix @ self.matrix, self.boxes_xyxy, self.labels, fill)

    def keep(self, kept: npt.NDArray[np.bool_]) -> View:
        """The view with only the boxes where `kept [G]`."""
        boxes, labels = self.boxes_xyxy[kept], self.labels[kept]
        return View(self.size_hw, self.matrix, boxes, labels, self.fill)


class GeometricStep(Protocol):
    """A step draws its parameters from `rng` and adds to the view's matrix."""

    def __call__(self, view: View, rng: np.random.Generator) -> View: ...


@dataclass(frozen=True)
class RandomFlip:
    """Mirror left and right with probability `p`."""

    p: float = 0.5

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        if rng.random() >= self.p:
            return view
        return view.then(mirroring(view.size_hw[1]), view.size_hw)


@dataclass(frozen=True)
class RandomExpand:
    """Put the picture somewhere on a larger canvas of one colour: objects get smaller.

    SSD (Liu et al. 2016, arXiv 1512.02325, section 3.6) calls it the zoom out operation.

    Attributes:
        p: probability.
        side_range: the canvas has between these factors of the picture's sides.
        fill: RGB of the canvas, ImageNet's mean.
    """

    p: float = 0.5
    side_range: tuple[float, float] = (1.0, 4.0)
    fill: Colour = (123, 117, 104)

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        if rng.random() >= self.p:
            return view
        factor, across, down = rng.random(3).tolist()
        low, high = self.side_range
        factor = low + (high - low) * factor
        height, width = view.size_hw
        canvas_hw = (int(height * factor), int(width * factor))
        left = int((canvas_hw[1] - width) * across)
        top = int((canvas_hw[0] - height) * down)
        return view.then(translation(left, top), canvas_hw, fill=self.fill)


@dataclass(frozen=True)
class RandomJitter:
    """Move each edge of the canvas by itself: crop, zoom out, shift and aspect in one step.

    Darknet's `jitter` (Redmon & Farhadi 2018, arXiv 1804.02767; `load_data_detection` of its
    code, 0.3 in yolov3.cfg and yolov4.cfg).

    Attributes:
        jitter: each edge moves in or out by at most this share of the side.
        fill: RGB of what lies outside of the picture; None for the padding's grey.
    """

    jitter: float = 0.3
    fill: Colour | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.jitter < 0.5:
            raise ValueError(f"jitter is {self.jitter}, not from 0 to below 0.5")

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        height, width = view.size_hw
        shares = rng.uniform(-self.jitter, self.jitter, 4).tolist()
        left, right = int(shares[0] * width), int(shares[2] * width)
        top, bottom = int(shares[1] * height), int(shares[3] * height)
        canvas_hw = (max(1, height - top - bottom), max(1, width - left - right))
        return view.then(translation(-left, -top), canvas_hw, fill=self.fill)


@dataclass(frozen=True)
class RandomAffine:
    """Turn, shear and scale the picture about the middle of its canvas, which keeps its size.

    As the `random_perspective` of YOLOX (Ge et al. 2021, arXiv 2107.08430, section 2.1, and its
    code), without perspective. A box becomes the hull of its moved corners, which is wider than
    a round object turned with it: keep the angle small.

    Attributes:
        degrees: largest angle of the turn, either way.
        shear_degrees: largest angle of the shear along each axis, either way.
        scale_range: factors of the picture's size.
        p: probability.
    """

    degrees: float = 5.0
    shear_degrees: float = 2.0
    scale_range: tuple[float, float] = (1.0, 1.0)
    p: float = 1.0

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        if rng.random() >= self.p:
            return view
        angle, shear_x, shear_y = np.radians(
            rng.uniform(-1, 1, 3) * (self.degrees, self.shear_degrees, self.shear_degrees)
        )
        scale = rng.uniform(*self.scale_range)
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        shear = np.array([[1, np.tan(shear_x), 0], [np.tan(shear_y), 1, 0], [0, 0, 1]])
        middle_x, middle_y = view.size_hw[1] / 2, view.size_hw[0] / 2
        about = translation(middle_x, middle_y) @ shear @ turn @ translation(-middle_x, -middle_y)
        return view.then(about, view.size_hw)
