"""SSD's sampling crop: a random part of the picture that shows enough of some object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flyweight.transforms.geometry import Boxes, View, translation
from flyweight.transforms.sampling import Rectangle

# G ground-truth boxes


@dataclass(frozen=True)
class RandomIoUCrop:
    """SSD's sampling crop (Liu et al. 2016, arXiv 1512.02325, section 2.2, data augmentation).

    A least IoU is drawn from `iou_options`; then crops are drawn until one holds the centre of a
    box and has at least that IoU with such a box. After `trials` crops in vain another least IoU
    is drawn. An option of 1 or more leaves the picture whole. Objects whose centre is outside of
    the crop are dropped. A picture without objects stays whole.

    Attributes:
        scale_range: sides of the crop as shares of the picture's sides.
        aspect_range: width of the crop divided by its height, in pixels.
        iou_options: least IoU of the crop with a box whose centre it holds.
        trials: crops tried for each least IoU.
    """

    scale_range: tuple[float, float] = (0.3, 1.0)
    aspect_range: tuple[float, float] = (0.5, 2.0)
    iou_options: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    trials: int = 40

    def __post_init__(self) -> None:
        if max(self.iou_options) < 1:
            raise ValueError("iou_options needs one of 1 or more, or the search might not end")

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        boxes, objects = view.canvas_boxes(), view.labels >= 0
        crop = self.sample(boxes[objects], view.size_hw, rng=rng)
        if crop is None:
            return view
        left, top, right, bottom = crop
        x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
        kept = (left < x) & (x < right) & (top < y) & (y < bottom) | ~objects
        return view.keep(kept).then(translation(-left, -top), (bottom - top, right - left))

    def sample(
        self, boxes_xyxy: Boxes, size_hw: tuple[int, int], *, rng: np.random.Generator
    ) -> Rectangle | None:
        """Draw a crop `xyxy`, whole pixels, for `boxes_xyxy [G, 4]`; None for no crop."""
        if len(boxes_xyxy) == 0:
            return None
        boxes = boxes_xyxy.tolist()
        bounds = [self._iou_bound(box, size_hw) for box in boxes]
        while True:
            least_iou = self.iou_options[rng.integers(len(self.iou_options))]
            if least_iou >= 1:
                return None
            able = [box for box, bound in zip(boxes, bounds, strict=True) if bound >= least_iou]
            # On pictures of small objects most options would only spend their trials in vain.
            if not able:
                continue
            largest = max((right - left) * (bottom - top) for left, top, right, bottom in able)
            for crop in self._draw_crops(size_hw, rng):
                left, top, right, bottom = crop
                # A crop's IoU with what is smaller is at most the ratio of their areas.
                if least_iou * (right - left) * (bottom - top) > largest:
                    continue
                for box in able:
                    if (
                        left < (box[0] + box[2]) / 2 < right
                        and top < (box[1] + box[3]) / 2 < bottom
                        and _reaches_iou(crop, box, least_iou)
                    ):
                        return crop

    def _iou_bound(self, box_xyxy: Sequence[float], size_hw: tuple[int, int]) -> float:
        """At most this IoU has any crop with the box.

        The best crop is the box itself, but no side of it is below the least scale (rounded down
        to whole pixels).
        """
        left, top, right, bottom = box_xyxy
        width, height = max(right - left, 0.0), max(bottom - top, 0.0)
        least = self.scale_range[0]
        widest = max(width, least * size_hw[1] - 1, 1)
        return (width / widest) * (height / max(height, least * size_hw[0] - 1, 1))

    def _draw_crops(
        self, size_hw: tuple[int, int], rng: np.random.Generator
    ) -> Iterator[Rectangle]:
        """Of `trials` crops, whole pixels, those that have a permitted aspect.

        Numbers of Python: mostly one of the first crops is taken, and for the boxes of a picture
        a call of numpy costs more than the arithmetic.
        """
        low, high = self.scale_range
        narrowest, widest = self.aspect_range
        for across, down, x, y in zip(*rng.random((4, self.trials)).tolist(), strict=True):
            width = max(int(size_hw[1] * (low + (high - low) * across)), 1)
            height = max(int(size_hw[0] * (low + (high - low) * down)), 1)
            if narrowest * height <= width <= widest * height:
                left, top = int((size_hw[1] - width) * x), int((size_hw[0] - height) * y)
                yield left, top, left + width, top + height


def _reaches_iou(crop_xyxy: Rectangle, box_xyxy: Sequence[float], least_iou: float) -> bool:
    """Whether the IoU is at least `least_iou`: the quotient multiplied out."""
    left, top, right, bottom = crop_xyxy
    x1, y1, x2, y2 = box_xyxy
    across, down = min(right, x2) - max(left, x1), min(bottom, y2) - max(top, y1)
    common = max(across, 0.0) * max(down, 0.0)
    both = (right - left) * (bottom - top) + (x2 - x1) * (y2 - y1)
    return common * (1 + least_iou) >= least_iou * both
