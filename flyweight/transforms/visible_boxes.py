"""Boxes of a painted sample: where each object ended, and how much of it is still seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import box_area, transform_boxes
from flyweight.transforms.geometry import Boxes, Labels, Matrix
from flyweight.transforms.layers import Layer, Layers, Patch
from flyweight.transforms.sampling import Rectangle, common

# G boxes of one layer, R rectangles

# What sticks out from under a window by less than a pixel is no more than a tint.
TINT = 1.0


def visible_boxes(
    layers: Layers, matrices: Sequence[Matrix], *, min_side: float, min_visible: float
) -> tuple[npt.NDArray[np.float32], Labels]:
    """The boxes of all layers in the output, without what later ones hide.

    A box is cut at its layer's window; of what opaque windows over it leave it is the hull, so an
    object of which a corner is hidden keeps its box.

    Args:
        layers: in the order of painting.
        matrices: `[3, 3]` of each `Layer` among them, picture to output.
        min_side: a box with a shorter side is dropped, pixels; in any case one without an area.
        min_visible: a box of which a smaller share of the area is seen is dropped; of all that the
            object had in its picture.

    Returns:
        boxes `xyxy [G', 4]` float32 in pixels of the output, labels `[G']` int64.
    """
    pictures = [layer for layer in layers if isinstance(layer, Layer)]
    if not pictures:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    whole = np.concatenate(
        [
            transform_boxes(layer.view.boxes_xyxy, matrix)
            for layer, matrix in zip(pictures, matrices, strict=True)
        ]
    )
    labels = np.concatenate([layer.view.labels for layer in pictures])
    windows = np.array([layer.window for layer in pictures], dtype=np.float64)
    if len(pictures) > 1:
        windows = windows.repeat([len(layer.view.labels) for layer in pictures], axis=0)
    low, high = windows[:, None, :2], windows[:, None, 2:]
    boxes = np.minimum(np.maximum(whole.reshape(-1, 2, 2), low), high).reshape(-1, 4)
    areas = box_area(boxes)
    end = 0
    for number, layer in enumerate(layers):
        if isinstance(layer, Patch):
            continue
        start, end = end, end + len(layer.view.labels)
        covers = _covers(layers[number + 1 :], layer.window)
        if covers:
            pieces = uncovered(layer.window, covers)
            boxes[start:end], areas[start:end] = seen_of(boxes[start:end], pieces)
    seen = boxes.astype(np.float32)
    sides = seen[:, 2:] - seen[:, :2]
    shorter = np.minimum(sides[:, 0], sides[:, 1])
    kept = shorter >= min_side if min_side > 0 else shorter > 0
    if min_visible > 0:
        # a region where nothing is asked stays one, however little is seen of it
        kept &= (areas >= min_visible * box_area(whole)) | (labels < 0)
    return seen[kept], labels[kept]


def seen_of(
    boxes_xyxy: Boxes, pieces: Sequence[Rectangle]
) -> tuple[Boxes, npt.NDArray[np.float64]]:
    """Hulls `[G, 4]` of the parts of `boxes_xyxy [G, 4]` that lie in any of R `pieces`, which do
    not overlap, and the areas `[G]` of these parts; without a part, a box and an area of 0."""
    rectangles = np.array(pieces, dtype=np.float64).reshape(-1, 4)
    low = np.maximum(boxes_xyxy[:, None, :2], rectangles[:, :2])
    high = np.minimum(boxes_xyxy[:, None, 2:], rectangles[:, 2:])
    seen = np.all(high - low >= TINT, axis=2, keepdims=True)
    areas = np.where(seen, high - low, 0).prod(axis=2).sum(axis=1)
    hulls = np.concatenate(
        [
            np.where(seen, low, np.inf).min(axis=1, initial=np.inf),
            np.where(seen, high, -np.inf).max(axis=1, initial=-np.inf),
        ],
        axis=1,
    )
    return np.where(areas[:, None] > 0, hulls, 0), areas


def uncovered(window: Rectangle, covers: Sequence[Rectangle]) -> list[Rectangle]:
    """`window` without `covers`, as rectangles that do not overlap."""
    pieces = [window]
    for cover in covers:
        pieces = [rest for piece in pieces for rest in _without(piece, cover)]
    return pieces


def _without(piece: Rectangle, cover: Rectangle) -> list[Rectangle]:
    hidden = common(piece, cover)
    if hidden is None:
        return [piece]
    left, top, right, bottom = piece
    x1, y1, x2, y2 = hidden
    around = [
        (left, top, right, y1),
        (left, y2, right, bottom),
        (left, y1, x1, y2),
        (x2, y1, right, y2),
    ]
    return [each for each in around if each[0] < each[2] and each[1] < each[3]]


def _covers(later: Layers, window: Rectangle) -> list[Rectangle]:
    """What opaque layers hide of `window`."""
    opaque = (layer for layer in later if isinstance(layer, Patch) or layer.opacity == 1)
    return [layer.window for layer in opaque if common(layer.window, window)]
