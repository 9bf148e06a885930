"""From a picture to a network's input: the one function for training, evaluation and serving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import clip_boxes, transform_boxes

ResizeMode = Literal["stretch", "letterbox", "shortest_side"]
Canvas = Literal["fixed", "batch"]
Image = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]

# The sides of a batch's canvas: whole strides of the coarsest backbone level.
CANVAS_MULTIPLE = 32


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes an input of the network, as data.

    Attributes:
        size_hw: height and width of the network's input, pixels.
        resize: `stretch` to the size; `letterbox` keeps the aspect ratio and pads around the
            centre; `shortest_side` scales the short side to `short_side`, but the long one at
            most to `long_side`, and pads on the right and below.
        short_side, long_side: of `shortest_side`, pixels; by default those of `size_hw`.
        canvas: `fixed` is always `size_hw`, into which `shortest_side` shrinks what would not fit,
            such as portraits in a landscape canvas; `batch` is as large as the largest picture of
            a batch needs, in whole multiples of 32, and `size_hw` is only its usual size.
        mean, std: of the channels, in units of 0 to 1; applied inside the network's graph as
            `(x / 255 - mean) / std`, never by callers.
        channel_order: of the network's input; Flyweight's networks take RGB.
        pad_value: grey level of padding, 0 to 255.
    """

    size_hw: tuple[int, int] = (320, 320)
    resize: ResizeMode = "stretch"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    channel_order: Literal["RGB"] = "RGB"
    pad_value: int = 114
    short_side: int | None = None
    long_side: int | None = None
    canvas: Canvas = "fixed"

    def __post_init__(self) -> None:
        if self.canvas not in get_args(Canvas):
            raise ValueError(f"canvas is {self.canvas!r}, not one of {get_args(Canvas)}")
        if self.resize != "shortest_side" and (
            self.canvas == "batch" or self.short_side or self.long_side
        ):
            raise ValueError(f"resize {self.resize!r} knows no sides and no canvas of a batch")
        if self.resize not in get_args(ResizeMode):
            raise ValueError(f"resize is {self.resize!r}, not one of {get_args(ResizeMode)}")
        if min(self.size_hw) < 1 or min(self.std) <= 0:
            raise ValueError(f"size_hw {self.size_hw} and std {self.std} must be positive")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @staticmethod
    def from_dict(content: dict[str, Any]) -> Preprocessing:
        """The inverse of `to_dict`."""
        height, width = content["size_hw"]
        return Preprocessing(
            size_hw=(int(height), int(width)),
            resize=content["resize"],
            mean=tuple(map(float, content["mean"])),  # type: ignore[arg-type]
            std=tuple(map(float, content["std"])),  # type: ignore[arg-type]
            channel_order=content["channel_order"],
            pad_value=int(content["pad_value"]),
            short_side=content.get("short_side"),
            long_side=content.get("long_side"),
            canvas=content.get("canvas", "fixed"),
        )

    def for_images(self, sizes_hw: Sequence[tuple[int, int]]) -> Preprocessing:
        """With the fixed canvas that images of these heights and widths share."""
        if self.canvas == "fixed":
            return self
        contents = np.array([self.content_size_hw(size_hw) for size_hw in sizes_hw])
        height, width = -(-contents.max(axis=0) // CANVAS_MULTIPLE) * CANVAS_MULTIPLE
        short_side, long_side = self._sides
        return replace(
            self,
            size_hw=(int(height), int(width)),
            short_side=short_side,
            long_side=long_side,
            canvas="fixed",
        )

    def at_size(self, size_hw: tuple[int, int]) -> Preprocessing:
        """For a network input of another size; the sides of `shortest_side` are then its own."""
        if size_hw == self.size_hw:
            return self
        return replace(self, size_hw=size_hw, short_side=None, long_side=None)

    @property
    def _sides(self) -> tuple[int, int]:
        return self.short_side or min(self.size_hw), self.long_side or max(self.size_hw)

    @property
    def decode_size_hw(self) -> tuple[int, int]:
        """What a picture is never decoded smaller than, pixels."""
        return self.size_hw if self.canvas == "fixed" else (self._sides[1],) * 2

    def matrix(self, size_hw: tuple[int, int]) -> Matrix:
        """`[2, 3]`, continuous coordinates of an image of `size_hw` to those of the input."""
        height, width = size_hw
        target_height, target_width = self.size_hw
        if self.resize == "stretch":
            return np.array([[target_width / width, 0, 0], [0, target_height / height, 0]])
        content_hw = self.content_size_hw(size_hw)
        scale_y, scale_x = content_hw[0] / height, content_hw[1] / width
        if self.resize == "shortest_side":
            return np.array([[scale_x, 0, 0], [0, scale_y, 0]])
        top, left = (target_height - content_hw[0]) // 2, (target_width - content_hw[1]) // 2
        return np.array([[scale_x, 0, left], [0, scale_y, top]], dtype=np.float64)

    def content_size_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Height and width that the picture itself takes in the input, whole pixels."""
        height, width = size_hw
        target_height, target_width = self.size_hw
        if self.resize == "stretch":
            return self.size_hw
        scale = min(target_height / height, target_width / width)
        if self.resize == "shortest_side":
            short_side, long_side = self._sides
            wanted = min(short_side / min(size_hw), long_side / max(size_hw))
            content_hw = max(1, round(height * wanted)), max(1, round(width * wanted))
            # compared in whole pixels: what is rounded down fits, although its scale is larger
            fits = content_hw[0] <= target_height and content_hw[1] <= target_width
            if fits or self.canvas == "batch":
                return content_hw
        return (
            min(target_height, max(1, round(height * scale))),
            min(target_width, max(1, round(width * scale))),
        )

    def apply(self, image: Image) -> tuple[Image, Matrix]:
        """Resize and pad an RGB uint8 `[H, W, 3]` image.

        Returns:
            The input, uint8 `[h, w, 3]` of `size_hw`, or of its own canvas where that is a
            batch's, contiguous; and the matrix `[2, 3]` that takes pixels of the image to pixels of
            the input.
        """
        size_hw = (image.shape[0], image.shape[1])
        if self.canvas == "batch":
            return self.for_images([size_hw]).apply(image)
        matrix = self.matrix(size_hw)
        content_hw = self.content_size_hw(size_hw)
        content = resize_image(image, content_hw)
        if content_hw == self.size_hw:
            return content, matrix
        top, left = int(matrix[1, 2]), int(matrix[0, 2])
        padded = np.full((*self.size_hw, 3), self.pad_value, dtype=np.uint8)
        padded[top : top + content_hw[0], left : left + content_hw[1]] = content
        return padded, matrix

    def invert_boxes(
        self, boxes_xyxy: npt.NDArray[np.float32], matrix: Matrix, size_hw: tuple[int, int]
    ) -> npt.NDArray[np.float32]:
        """`boxes_xyxy [N, 4]` in input pixels back to pixels of the image of `size_hw`, clipped."""
        (scale_x, _, left), (_, scale_y, top) = matrix
        inverse = np.array([[1 / scale_x, 0, -left / scale_x], [0, 1 / scale_y, -top / scale_y]])
        boxes = transform_boxes(boxes_xyxy.astype(np.float64), inverse)
        return clip_boxes(boxes, size_hw).astype(np.float32)


def resize_image(image: Image, size_hw: tuple[int, int]) -> Image:
    """Resize RGB uint8 `[H, W, 3]`: bilinear; by area where it shrinks more than twice."""
    height, width = image.shape[:2]
    if (height, width) == tuple(size_hw):
        return np.ascontiguousarray(image)
    shrink = max(height / size_hw[0], width / size_hw[1])
    # Bilinear reads a 2 x 2 neighbourhood: beyond a factor of 2 it would skip pixels and alias.
    method = cv2.INTER_AREA if shrink > 2.01 else cv2.INTER_LINEAR
    return np.asarray(
        cv2.resize(image, (size_hw[1], size_hw[0]), interpolation=method), dtype=np.uint8
    )
