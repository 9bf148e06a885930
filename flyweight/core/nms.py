"""Non-maximum suppression in numpy, class-aware, for predictors that have no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flyweight.core.detections import Detections

# A anchors, C classes, N candidates, M candidates of a chunk, P pairs of one class in a chunk

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

# Candidates are looked at in chunks, best first: pairs within a chunk are all compared at once,
# and none are once enough boxes are kept.
CHUNK = 256


def nms(boxes_xyxy: Floats, scores: Floats, iou_threshold: float) -> Indices:
    """Greedy NMS: indices kept of `boxes_xyxy [N, 4]`, best `scores [N]` first.

    A box falls when its IoU with a better kept one is above `iou_threshold`.
    """
    return class_aware_nms(boxes_xyxy, scores, np.zeros(len(scores), np.int64), iou_threshold)


def class_aware_nms(
    boxes_xyxy: Floats,
    scores: Floats,
    labels: npt.NDArray[np.integer],
    iou_threshold: float,
    *,
    most: int | None = None,
) -> Indices:
    """Greedy NMS among boxes of the same label, all classes in one pass.

    Args:
        boxes_xyxy: `[N, 4]` pixels.
        scores: `[N]`.
        labels: `[N]`; boxes of different labels never suppress each other.
        iou_threshold: overlap above which the lower score falls.
        most: stop when so many are kept.

    Returns:
        Indices kept, best score first.
    """
    order = np.argsort(-scores, kind="stable")
    if most is None:
        most = len(order)
    kept = order[:0]
    for start in range(0, len(order), CHUNK):
        if len(kept) >= most:
            break
        chunk = order[start : start + CHUNK]
        if len(kept):
            chunk = chunk[~_fallen(boxes_xyxy, labels, kept, chunk, iou_threshold)]
        alive = _alive_within(boxes_xyxy[chunk], labels[chunk], iou_threshold)
        kept = np.concatenate([kept, chunk[alive]])
    return kept[:most]


def _fallen(
    boxes_xyxy: Floats,
    labels: npt.NDArray[np.integer],
    kept: Indices,
    chunk: Indices,
    iou_threshold: float,
) -> npt.NDArray[np.bool_]:
    """`[M]` which of `chunk` a box already `kept` suppresses."""
    same = labels[kept][:, None] == labels[chunk][None]
    first, second = np.divmod(np.flatnonzero(same), len(chunk))
    overlapping = _overlap(boxes_xyxy[kept], boxes_xyxy[chunk], first, second, iou_threshold)
    fallen = np.zeros(len(chunk), dtype=bool)
    fallen[second[overlapping]] = True
    return fallen


def _alive_within(
    boxes_xyxy: Floats, labels: npt.NDArray[np.integer], iou_threshold: float
) -> npt.NDArray[np.bool_]:
    """`[M]` which boxes, sorted by score, no better one of their class suppresses."""
    count = len(labels)
    alive = np.ones(count, dtype=bool)
    # Only pairs of one class are made: by class, then by score, a box pairs with those behind it.
    by_class = np.argsort(labels, kind="stable")
    sorted_labels = labels[by_class]
    ends = np.searchsorted(sorted_labels, sorted_labels, side="right")
    behind = ends - np.arange(1, count + 1)
    first = np.repeat(np.arange(count), behind)
    if len(first) == 0:
        return alive
    starts = np.cumsum(behind) - behind
    second = np.arange(len(first)) - starts[first] + first + 1
    ordered = boxes_xyxy[by_class]
    overlapping = _overlap(ordered, ordered, first, second, iou_threshold)
    better, worse = first[overlapping], second[overlapping]
    bounds = np.flatnonzero(np.diff(better, prepend=-1, append=-1))
    alive_sorted = np.ones(count, dtype=bool)
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if alive_sorted[better[low]]:
            alive_sorted[worse[low:high]] = False
    alive[by_class] = alive_sorted
    return alive


def _overlap(
    a_xyxy: Floats, b_xyxy: Floats, first: Indices, second: Indices, iou_threshold: float
) -> npt.NDArray[np.bool_]:
    """`[P]` whether the IoU of `a_xyxy[first]` and `b_xyxy[second]` is above the threshold."""
    # By column: a gather of scalars from a short array stays in the first-level cache.
    ax1, ay1, ax2, ay2 = (column[first] for column in np.ascontiguousarray(a_xyxy.T))
    bx1, by1, bx2, by2 = (column[second] for column in np.ascontiguousarray(b_xyxy.T))
    width = np.maximum(np.minimum(ax2, bx2) - np.maximum(ax1, bx1), 0)
    height = np.maximum(np.minimum(ay2, by2) - np.maximum(ay1, by1), 0)
    common = width * height
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - common
    # Without a division: two empty boxes have IoU 0 and not NaN.
    result: npt.NDArray[np.bool_] = common > iou_threshold * union
    return result


def select_detections(
    boxes_xyxy: Floats,
    scores: Floats,
    *,
    score_threshold: float,
    iou_threshold: float,
    candidates_per_class: int,
    max_detections: int,
) -> Detections:
    """From the dense outputs of one image to its detections, as SSD does it (Liu et al. 2016, 3.1).

    Per class the best `candidates_per_class` above `score_threshold`, class-aware NMS, then the
    best `max_detections` of all classes.

    Args:
        boxes_xyxy: `[A, 4]` pixels.
        scores: `[A, C]`, without background.
    """
    # Flat: numpy finds the few true places of a long row five times as fast as those of a table.
    places = np.flatnonzero(scores > score_threshold)
    values = scores.reshape(-1)[places]
    anchors, classes = np.divmod(places, scores.shape[1])
    if len(values) > candidates_per_class:
        best = _best_of_each_class(values, classes, candidates_per_class)
        anchors, classes, values = anchors[best], classes[best], values[best]
    candidates = boxes_xyxy[anchors]
    keep = class_aware_nms(candidates, values, classes, iou_threshold, most=max_detections)
    return Detections(candidates[keep], values[keep], classes[keep])


def _best_of_each_class(values: Floats, classes: Indices, most: int) -> Indices:
    """Places of the `most` highest `values [N]` of each class, in rising order."""
    counts = np.bincount(classes)
    if counts.max() <= most:
        return np.arange(len(values))
    order = np.lexsort((-values, classes))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[rank < most])
