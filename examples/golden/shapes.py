"""Pictures of coloured shapes, the smallest task that a detector can be seen to solve."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

CLASS_NAMES = ("disc", "square", "triangle")
# RGB of each class, from which each object's own differs a little: a minute of training is enough.
COLOURS = np.array([[225, 50, 40], [230, 200, 40], [50, 200, 215]])
_JITTER = 25
# Corners are drawn with this many bits below the pixel.
_SHIFT = 4


def draw_shapes(
    seed: int | list[int], size_hw: tuple[int, int], *, most: int = 5
) -> tuple[Image, npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """One picture of 1 to `most` shapes on a background that changes smoothly.

    Three classes and not the one of the sample scenes, so that labels and NMS by class count;
    smooth, so that a PNG of it is small.

    Args:
        seed: of everything in it.
        size_hw: of the picture, pixels.
        most: shapes at most.

    Returns:
        The picture, RGB uint8 `[H, W, 3]`; `boxes_xyxy [G, 4]`, its pixels; `labels [G]`.
    """
    rng = np.random.default_rng(seed)
    image = _background(rng, size_hw)
    unit = float(np.sqrt(size_hw[0] * size_hw[1]))
    taken = np.zeros(size_hw, dtype=np.uint8)
    boxes, labels = [], []
    for _ in range(int(rng.integers(1, most + 1))):
        label = int(rng.integers(len(CLASS_NAMES)))
        radius = unit * float(rng.uniform(0.09, 0.22))
        centre = rng.uniform(radius, np.array(size_hw[::-1]) - radius)
        outline = centre + radius * _outline(label, float(rng.uniform(0, 2 * np.pi)))
        mask = np.zeros(size_hw, dtype=np.uint8)
        corners = np.round((outline - 0.5) * 2**_SHIFT).astype(np.int32)
        cv2.fillPoly(mask, [corners], 255, cv2.LINE_8, _SHIFT)
        if (mask & taken).sum() > 0.15 * mask.sum():
            continue
        taken |= mask
        image[mask > 0] = COLOURS[label] + rng.integers(-_JITTER, _JITTER + 1, 3)
        boxes.append(np.concatenate([outline.min(axis=0), outline.max(axis=0)]))
        labels.append(label)
    blurred: Image = np.asarray(cv2.GaussianBlur(image, (3, 3), 0.6), dtype=np.uint8)
    return blurred, np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(labels, np.int64)


def _background(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
    """Four random corners' colours, blended between them."""
    corners = rng.integers(20, 140, (2, 2, 3)).astype(np.uint8)
    height, width = size_hw
    return np.asarray(cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR))


def _outline(label: int, turn: float) -> npt.NDArray[np.float64]:
    """Corners `[P, 2]` on the unit circle, turned: many of a disc, four, three."""
    corners = (48, 4, 3)[label]
    angles = turn + 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)
