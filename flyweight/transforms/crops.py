"""SSD's sampling crop: a random part of the picture that shows enough of some object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flyweight.transforms.geometry import Boxes, View, translation

# T trials, G ground-truth boxes


@dataclass(frozen=True)
class RandomIoUCrop:
    """SSD's sampling crop (Liu et al. 2016, arXiv 1512.02325, section 2.2, data augmentation).

    A least IoU is drawn from `iou_options`; then crops are drawn until one holds the centre of a
    box and has at least that IoU with such a box. After `trials` crops in vain another least IoU
    is drawn. An option of 1 or more leaves the picture whole. Boxes whose centre is outside of
    the crop are dropped. A picture without boxes stays whole.

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
        boxes = view.canvas_boxes()
        crop = self.sample(boxes, view.size_hw, rng=rng)
        if crop is None:
            return view
        left, top, right, bottom = crop
        kept = _centres_inside(boxes, np.array(crop, dtype=np.float64)[:, None])[0]
        return view.keep(kept).then(translation(-left, -top), (bottom - top, right - left))

    def sample(
        self, boxes_xyxy: Boxes, size_hw: tuple[int, int], *, rng: np.random.Generator
    ) -> tuple[int, int, int, int] | None:
        """Draw a crop `xyxy`, whole pixels, for `boxes_xyxy [G, 4]`; None for no crop."""
        if len(boxes_xyxy) == 0:
            return None
        bounds = self._iou_bounds(boxes_xyxy, size_hw)
        reachable = float(bounds.max())
        while True:
            least_iou = self.iou_options[rng.integers(len(self.iou_options))]
            if least_iou >= 1:
                return None
            # On pictures of small objects most options would only spend their trials in vain.
            if least_iou > reachable:
                continue
            crops, permitted = self._draw_crops(size_hw, rng)
            candidates = boxes_xyxy if least_iou <= 0 else boxes_xyxy[bounds >= least_iou]
            valid = _centres_inside(candidates, crops)
            if least_iou > 0:
                valid &= _reach_iou(candidates, crops, least_iou)
            found = valid.any(axis=1) & permitted
            first = int(found.argmax())
            if found[first]:
                left, top, right, bottom = crops[:, first].astype(int).tolist()
                return left, top, right, bottom

    def _iou_bounds(self, boxes_xyxy: Boxes, size_hw: tuple[int, int]) -> Boxes:
        """`[G]`: at most this IoU has any crop with each of `boxes_xyxy [G, 4]`.

        The best crop is the box itself, but no side of it is below the least scale (rounded down
        to whole pixels).
        """
        sides = np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0)
        least = [max(self.scale_range[0] * side - 1, 1) for side in size_hw[::-1]]
        return np.asarray((sides / np.maximum(sides, least)).prod(axis=1))

    def _draw_crops(
        self, size_hw: tuple[int, int], rng: np.random.Generator
    ) -> tuple[Boxes, npt.NDArray[np.bool_]]:
        """Crops `xyxy [4, T]` of whole pixels, and `[T]` which have a permitted aspect."""
        size_wh = np.array([[size_hw[1]], [size_hw[0]]], dtype=np.float64)
        low, high = self.scale_range
        draws = rng.random((4, self.trials))
        crops = np.empty((4, self.trials))
        sides = np.maximum(np.floor(size_wh * (low + (high - low) * draws[:2])), 1)
        crops[:2] = np.floor((size_wh - sides) * draws[2:])
        crops[2:] = crops[:2] + sides
        widths, heights = sides
        narrowest, widest = self.aspect_range
        return crops, (widths >= narrowest * heights) & (widths <= widest * heights)


def _centres_inside(boxes_xyxy: Boxes, crops_xyxy: Boxes) -> npt.NDArray[np.bool_]:
    """`[T, G]`: whether each of `crops_xyxy [4, T]` holds the centres of `boxes_xyxy [G, 4]`."""
    left, top, right, bottom = crops_xyxy[..., None]
    x, y = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]).T / 2
    return np.asarray((left < x) & (x < right) & (top < y) & (y < bottom))


def _reach_iou(boxes_xyxy: Boxes, crops_xyxy: Boxes, least_iou: float) -> npt.NDArray[np.bool_]:
    """`[T, G]`: whether `crops_xyxy [4, T]` and `boxes_xyxy [G, 4]` have at least `least_iou`.

    The quotient of core's `box_iou` multiplied out, on rows instead of columns: this is called
    several times a picture, and costs a fifth of it.
    """
    left, top, right, bottom = crops_xyxy[..., None]
    x1, y1, x2, y2 = boxes_xyxy.T
    across = np.minimum(right, x2) - np.maximum(left, x1)
    down = np.minimum(bottom, y2) - np.maximum(top, y1)
    common = np.maximum(across, 0) * np.maximum(down, 0)
    both = (right - left) * (bottom - top) + (x2 - x1) * (y2 - y1)
    return np.asarray(common * (1 + least_iou) >= least_iou * both)
