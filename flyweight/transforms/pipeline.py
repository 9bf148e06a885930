"""A training picture from its file to the network's input: one matrix, one resampling."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import transform_boxes
from flyweight.core.image import read_image
from flyweight.core.preprocessing import Preprocessing
from flyweight.transforms.geometry import GeometricStep, Matrix, View, scaling
from flyweight.transforms.photometric import PhotometricDistortion, distort
from flyweight.transforms.sampling import Placement, Rectangle, place

Image = npt.NDArray[np.uint8]
Sample = tuple[Image, npt.NDArray[np.float32], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class TrainTransform:
    """Draws geometric parameters, multiplies them into one matrix, samples, then distorts.

    Attributes:
        preprocessing: the network's input size and how a canvas is resized to it.
        steps: geometric steps, in order; the resize of `preprocessing` follows them.
        distortion: photometric distortion, or None.
        min_side: boxes with a shorter side in the input are dropped, pixels.
        decode_factor: a JPEG is decoded at a reduced scale only while it keeps this many pixels
            for each pixel of the output, along each axis. 1 loses no detail; 2 is what
            evaluation reads.
    """

    preprocessing: Preprocessing
    steps: tuple[GeometricStep, ...] = ()
    distortion: PhotometricDistortion | None = None
    min_side: float = 1.0
    decode_factor: float = 1.0

    def __call__(
        self,
        picture: str | os.PathLike[str] | Image,
        boxes_xyxy: npt.NDArray[np.floating],
        labels: npt.NDArray[np.integer],
        *,
        size_hw: tuple[int, int],
        rng: np.random.Generator,
    ) -> Sample:
        """Transform one labelled picture; the same state of `rng` gives the same bytes.

        Args:
            picture: file, or RGB uint8 `[H, W, 3]`.
            boxes_xyxy: `[G, 4]` in pixels of the picture.
            labels: `[G]`.
            size_hw: of the picture as annotated.
            rng: where all random parameters come from.

        Returns:
            RGB uint8 `[h, w, 3]` of the input size (of the picture's own canvas where the
            preprocessing has that of a batch), boxes `xyxy [G', 4]` float32 in its pixels,
            and their labels `[G']` int64.
        """
        parameters = self.distortion.draw(rng) if self.distortion is not None else None
        view = View.of_picture(
            size_hw,
            np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4),
            np.asarray(labels, dtype=np.int64).reshape(-1),
        )
        for step in self.steps:
            view = step(view, rng)
        canvas_hw = view.size_hw
        preprocessing = self.preprocessing.for_images([canvas_hw])
        fit = np.vstack([preprocessing.matrix(canvas_hw), [0, 0, 1]])
        view = view.then(fit, preprocessing.size_hw)
        window = _window(preprocessing, canvas_hw, fit)
        pixels = self._read(picture, view.matrix, size_hw)
        # A file decoded at a half has half the pixels under the same continuous coordinates.
        scale_y, scale_x = pixels.shape[0] / size_hw[0], pixels.shape[1] / size_hw[1]
        placement = place(view.matrix @ scaling(1 / scale_x, 1 / scale_y), pixels.shape[:2], window)
        if placement is None:
            output = self._canvas(view, window)
            matrix = view.matrix
        else:
            part = placement.sample(pixels)
            if parameters is not None:
                part = distort(part, parameters)
            output = self._paste(part, placement, view, window)
            matrix = placement.matrix @ scaling(scale_x, scale_y)
        boxes, kept = self._finish_boxes(view, matrix, window)
        return output, boxes, view.labels[kept]

    def _read(
        self,
        picture: str | os.PathLike[str] | Image,
        matrix: Matrix,
        size_hw: tuple[int, int],
    ) -> Image:
        """RGB uint8 `[H, W, 3]`, at a reduced scale where `matrix` shrinks it that much anyway."""
        if isinstance(picture, np.ndarray):
            return picture
        # read_image keeps twice what it is asked for.
        share = self.decode_factor / 2
        needed_hw = (
            math.ceil(abs(matrix[1, 1]) * size_hw[0] * share),
            math.ceil(abs(matrix[0, 0]) * size_hw[1] * share),
        )
        return read_image(picture, min_size_hw=needed_hw)

    def _canvas(self, view: View, window: Rectangle) -> Image:
        """The input without the picture: padding, and the canvas's fill in its window."""
        height, width = view.size_hw
        canvas = np.empty((height, width, 3), dtype=np.uint8)
        if window != (0, 0, width, height):
            canvas[:] = self.preprocessing.pad_value
        left, top, right, bottom = window
        # A row of whole pixels copies many times faster than three bytes a pixel.
        canvas[top:bottom, left:right] = np.tile(
            np.array(view.fill, dtype=np.uint8), (right - left, 1)
        )
        return canvas

    def _paste(self, part: Image, placement: Placement, view: View, window: Rectangle) -> Image:
        """Put the resampled `part [h, w, 3]` on its canvas, unless it covers all of it."""
        if part.shape[:2] == view.size_hw:
            return part
        output = self._canvas(view, window)
        left, top, right, bottom = placement.target_xyxy
        output[top:bottom, left:right] = part
        return output

    def _finish_boxes(
        self, view: View, matrix: Matrix, window: Rectangle
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Boxes `xyxy [G', 4]` in input pixels, clipped to the window, and which of G stay."""
        moved = transform_boxes(view.boxes_xyxy, matrix)
        left, top, right, bottom = window
        moved = np.clip(moved, (left, top, left, top), (right, bottom, right, bottom))
        boxes = moved.astype(np.float32)
        kept = np.all(boxes[:, 2:] - boxes[:, :2] >= self.min_side, axis=1)
        return boxes[kept], kept


def _window(preprocessing: Preprocessing, canvas_hw: tuple[int, int], fit: Matrix) -> Rectangle:
    """Part of the input that the canvas covers; padding is around it."""
    height, width = preprocessing.content_size_hw(canvas_hw)
    left, top = int(fit[0, 2]), int(fit[1, 2])
    return left, top, left + width, top + height
