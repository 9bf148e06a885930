"""What a teacher is shown of a picture: larger or smaller, mirrored; and the way back of its boxes.

A network has one input size, to which every picture is resized: enlarging the picture itself would
change nothing. So a view of scale s gives it the picture in windows of 1 / s of its sides: smaller
than the picture and overlapping (s > 1), or larger, with a grey border (s < 1). Objects larger than
half a small window may be cut in each: such a view has no vote for them, and lowers their score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import clip_boxes
from flyweight.core.detections import Detections
from flyweight.core.errors import InputError
from flyweight.core.nms import class_aware_nms

# W windows of a picture, N detections

Image = npt.NDArray[np.uint8]
Window = tuple[int, int, int, int]

PAD_VALUE = 114
SCALES = (0.25, 4.0)
# Boxes that end so near to a window's border, as a share of its side, may be cut there.
BORDER = 0.01
# Of the windows of one view: the same object, seen whole in two of them.
SAME_OBJECT_IOU = 0.55


@dataclass(frozen=True)
class View:
    """How a picture is shown.

    Attributes:
        scale: how large objects are for the network, 1 as always; 0.25 to 4.
        flip: mirrored, left to right.

    Raises:
        InputError: the scale is out of range.
    """

    scale: float = 1.0
    flip: bool = False

    def __post_init__(self) -> None:
        low, high = SCALES
        if not low <= self.scale <= high:
            raise InputError(
                f"a view of scale {self.scale}", fix=f"give a number from {low:g} to {high:g}"
            )

    @property
    def name(self) -> str:
        """Short text for people: `1`, `0.75 flipped`."""
        return f"{self.scale:g} flipped" if self.flip else f"{self.scale:g}"

    def windows(self, size_hw: tuple[int, int]) -> list[Window]:
        """`xyxy` of the parts shown of a picture of `size_hw`, its own pixels; they cover it.

        Below scale 1 it is one, which reaches out of the picture alike on all sides.
        """
        (tops, height), (lefts, width) = (_stretches(side, self.scale) for side in size_hw)
        return [(left, top, left + width, top + height) for top in tops for left in lefts]

    def show(self, image: Image) -> list[Image]:
        """The windows of RGB uint8 `[H, W, 3]`, as the network gets them."""
        shown = [_cut(image, window) for window in self.windows(_size_hw(image))]
        return [np.ascontiguousarray(each[:, ::-1]) for each in shown] if self.flip else shown

    def unite(self, found: Sequence[Detections], size_hw: tuple[int, int]) -> Detections:
        """Detections in pixels of the picture of `size_hw`, from those `found` in its windows.

        What a window cuts another one shows whole: boxes at its border are dropped, unless the
        picture ends there too. Of an object that several show, the best box is kept.
        """
        windows = self.windows(size_hw)
        parts = [
            self._back(one, window, size_hw) for one, window in zip(found, windows, strict=True)
        ]
        if len(parts) == 1:
            return parts[0]
        boxes = np.concatenate([part.boxes_xyxy for part in parts])
        scores = np.concatenate([part.scores for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        kept = class_aware_nms(boxes, scores, labels, SAME_OBJECT_IOU)
        return Detections(boxes[kept], scores[kept], labels[kept])

    def _back(self, found: Detections, window: Window, size_hw: tuple[int, int]) -> Detections:
        boxes = found.boxes_xyxy
        left, top, right, bottom = window
        if self.flip:
            boxes = mirror(boxes, right - left)
        boxes = boxes + np.array([left, top, left, top], np.float32)
        sides = np.array([right - left, bottom - top] * 2)
        inner = np.array([left > 0, top > 0, right < size_hw[1], bottom < size_hw[0]])
        cut = (np.abs(boxes - np.array(window)) < BORDER * sides) & inner
        boxes = clip_boxes(boxes, size_hw)
        kept = ~cut.any(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return Detections(boxes[kept], found.scores[kept], found.labels[kept])


def make_views(scales: Sequence[float], *, flip: bool) -> tuple[View, ...]:
    """Every scale once, and with `flip` once more mirrored.

    Raises:
        InputError: no scale, one twice, or one out of range.
    """
    if not scales or len(set(scales)) < len(scales):
        raise InputError("scales must be given, each once", where="--scale", fix="e.g. --scale 1")
    flips = (False, True) if flip else (False,)
    return tuple(View(scale, flipped) for scale in scales for flipped in flips)


def mirror(boxes_xyxy: npt.NDArray[np.float32], width: float) -> npt.NDArray[np.float32]:
    """`boxes_xyxy [N, 4]` of an image so wide, as they lie when it is mirrored left to right."""
    left, top, right, bottom = boxes_xyxy.T
    return np.stack([width - right, top, width - left, bottom], axis=1)


def _stretches(side: int, scale: float) -> tuple[list[int], int]:
    """Where windows start along a side, and how long they are, whole pixels.

    Neighbours overlap by half at least: an object up to half a window is whole in one of them.
    """
    length = max(1, round(side / scale))
    if length >= side:
        return [-((length - side) // 2)], length
    count = math.ceil(2 * (side - length) / length) + 1
    return [round(place * (side - length) / (count - 1)) for place in range(count)], length


def _cut(image: Image, window: Window) -> Image:
    """The pixels of `window`, grey where it reaches out of `image [H, W, 3]`."""
    left, top, right, bottom = window
    height, width = _size_hw(image)
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return image[top:bottom, left:right]
    shown = np.full((bottom - top, right - left, 3), PAD_VALUE, np.uint8)
    shown[-top : height - top, -left : width - left] = image
    return shown


def _size_hw(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]
