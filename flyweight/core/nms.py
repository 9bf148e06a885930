"""Non-maximum suppression in numpy, class-aware, for predictors that have no torch.

Greedy; DIoU-NMS (Zheng et al. 2020, https://arxiv.org/abs/1911.08287, section 3.3); Soft-NMS
(Bodla et al. 2017, https://arxiv.org/abs/1704.04503, section 3).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import box_area
from flyweight.core.detections import Detections

# A anchors, C classes, N candidates, M candidates of a chunk (of a class in Soft-NMS), P pairs of
# one class in a chunk

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

# The first two drop boxes, the others only lower their scores.
HardNms = Literal["greedy", "diou"]
SoftNms = Literal["soft_linear", "soft_gaussian"]
NmsKind = Literal["greedy", "diou", "soft_linear", "soft_gaussian"]

# Of the Gaussian penalty exp(-IoU² / σ); the paper's.
SIGMA = 0.5

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
    kind: HardNms = "greedy",
    most: int | None = None,
) -> Indices:
    """NMS among boxes of the same label, all classes in one pass.

    Args:
        boxes_xyxy: `[N, 4]` pixels.
        scores: `[N]`.
        labels: `[N]`; boxes of different labels never suppress each other.
        iou_threshold: overlap above which the lower score falls.
        kind: "greedy" measures overlap by IoU; "diou" by IoU less the squared distance of the
            centres, as a share of the squared diagonal of the box around both.
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
            chunk = chunk[~_fallen(boxes_xyxy, labels, kept, chunk, iou_threshold, kind)]
        alive = _alive_within(boxes_xyxy[chunk], labels[chunk], iou_threshold, kind)
        kept = np.concatenate([kept, chunk[alive]])
    return kept[:most]


def _fallen(
    boxes_xyxy: Floats,
    labels: npt.NDArray[np.integer],
    kept: Indices,
    chunk: Indices,
    iou_threshold: float,
    kind: HardNms,
) -> npt.NDArray[np.bool_]:
    """`[M]` which of `chunk` a box already `kept` suppresses."""
    same = labels[kept][:, None] == labels[chunk][None]
    first, second = np.divmod(np.flatnonzero(same), len(chunk))
    overlapping = _overlap(boxes_xyxy[kept], boxes_xyxy[chunk], first, second, iou_threshold, kind)
    fallen = np.zeros(len(chunk), dtype=bool)
    fallen[second[overlapping]] = True
    return fallen


def _alive_within(
    boxes_xyxy: Floats, labels: npt.NDArray[np.integer], iou_threshold: float, kind: HardNms
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
    overlapping = _overlap(ordered, ordered, first, second, iou_threshold, kind)
    better, worse = first[overlapping], second[overlapping]
    bounds = np.flatnonzero(np.diff(better, prepend=-1, append=-1))
    alive_sorted = np.ones(count, dtype=bool)
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if alive_sorted[better[low]]:
            alive_sorted[worse[low:high]] = False
    alive[by_class] = alive_sorted
    return alive


def _overlap(
    a_xyxy: Floats,
    b_xyxy: Floats,
    first: Indices,
    second: Indices,
    iou_threshold: float,
    kind: HardNms,
) -> npt.NDArray[np.bool_]:
    """`[P]` whether `a_xyxy[first]` and `b_xyxy[second]` overlap by more than the threshold."""
    # By column: a gather of scalars from a short array stays in the first-level cache.
    ax1, ay1, ax2, ay2 = (column[first] for column in np.ascontiguousarray(a_xyxy.T))
    bx1, by1, bx2, by2 = (column[second] for column in np.ascontiguousarray(b_xyxy.T))
    width = np.maximum(np.minimum(ax2, bx2) - np.maximum(ax1, bx1), 0)
    height = np.maximum(np.minimum(ay2, by2) - np.maximum(ay1, by1), 0)
    common = width * height
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - common
    # Without a division: two empty boxes have IoU 0 and not NaN.
    result: npt.NDArray[np.bool_]
    if kind == "greedy":
        result = common > iou_threshold * union
        return result
    diagonal = (np.maximum(ax2, bx2) - np.minimum(ax1, bx1)) ** 2
    diagonal += (np.maximum(ay2, by2) - np.minimum(ay1, by1)) ** 2
    distance = ((ax1 + ax2 - bx1 - bx2) ** 2 + (ay1 + ay2 - by1 - by2) ** 2) / 4
    result = _ratio(common, union) - _ratio(distance, diagonal) > iou_threshold
    return result


def _ratio(part: Floats, whole: Floats) -> Floats:
    """`part / whole`, 0 where there is nothing to share."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def soft_nms(
    boxes_xyxy: Floats,
    scores: Floats,
    labels: npt.NDArray[np.integer],
    iou_threshold: float,
    *,
    kind: SoftNms,
    score_threshold: float,
    sigma: float = SIGMA,
    most: int | None = None,
) -> tuple[Indices, Floats]:
    """Soft-NMS among boxes of the same label: the best box stays, those it overlaps lose score,
    and so on with the best that is left (Bodla et al. 2017, figure 2).

    Args:
        boxes_xyxy: `[N, 4]` pixels.
        scores: `[N]`.
        labels: `[N]`; boxes of different labels never lower each other.
        iou_threshold: from this IoU on "soft_linear" multiplies by 1 - IoU; not read by the other.
        kind: "soft_gaussian" multiplies by `exp(-IoU² / σ)`, whatever the IoU.
        score_threshold: boxes fall when their score is no longer above it.
        sigma: σ.
        most: return only so many, the best.

    Returns:
        Indices kept and their new scores, best first.
    """
    # A row for each class, so that a step takes the best of all classes at once: as many steps
    # as the largest class has candidates.
    order = np.lexsort((-scores, labels))
    _, row, counts = np.unique(labels[order], return_inverse=True, return_counts=True)
    column = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    size = (len(counts), int(counts.max(initial=0)))
    boxes = np.zeros((*size, 4), np.float32)
    boxes[row, column] = boxes_xyxy[order]
    table = np.zeros(size, np.float32)
    table[row, column] = scores[order]
    left = np.zeros(size, bool)
    left[row, column] = True
    rows = np.arange(size[0])
    for _ in range(size[1]):
        best = np.where(left, table, -np.inf).argmax(axis=1)
        if not (left & (table > score_threshold))[rows, best].any():
            break
        left[rows, best] = False
        iou = _iou_with_one(boxes, boxes[rows, best])
        if kind == "soft_linear":
            factor = np.where(iou >= iou_threshold, 1 - iou, np.float32(1))
        else:
            factor = np.exp(-(iou**2) / np.float32(sigma))
        np.multiply(table, factor, out=table, where=left)
    # What never came up as the best is not above the threshold any more.
    found = table[row, column]
    ranking = np.argsort(-found, kind="stable")
    ranking = ranking[found[ranking] > score_threshold][:most]
    return order[ranking], found[ranking]


def _iou_with_one(boxes_xyxy: Floats, one_xyxy: Floats) -> Floats:
    """IoU `[C, M]` of `boxes_xyxy [C, M, 4]` with their row's `one_xyxy [C, 4]`."""
    one = one_xyxy[:, None]
    low = np.maximum(boxes_xyxy[..., :2], one[..., :2])
    sides = np.maximum(np.minimum(boxes_xyxy[..., 2:], one[..., 2:]) - low, 0)
    common = sides[..., 0] * sides[..., 1]
    return _ratio(common, box_area(boxes_xyxy) + box_area(one) - common)


def select_detections(
    boxes_xyxy: Floats,
    scores: Floats,
    *,
    score_threshold: float,
    iou_threshold: float,
    candidates_per_class: int,
    max_detections: int,
    kind: NmsKind = "greedy",
    sigma: float = SIGMA,
) -> Detections:
    """From the dense outputs of one image to its detections, as SSD does it (Liu et al. 2016, 3.1).

    Per class the best `candidates_per_class` above `score_threshold`, class-aware NMS, then the
    best `max_detections` of all classes.

    Args:
        boxes_xyxy: `[A, 4]` pixels.
        scores: `[A, C]`, without background.
        score_threshold: of the scores, and of those that Soft-NMS lowers.
        iou_threshold: overlap above which NMS drops the lower score.
        kind: of the NMS; with the soft ones, detections have their lowered scores.
        sigma: σ of "soft_gaussian".
    """
    # Flat: numpy finds the few true places of a long row five times as fast as those of a table.
    places = np.flatnonzero(scores > score_threshold)
    values = scores.reshape(-1)[places]
    anchors, classes = np.divmod(places, scores.shape[1])
    if len(values) > candidates_per_class:
        best = _best_of_each_class(values, classes, candidates_per_class)
        anchors, classes, values = anchors[best], classes[best], values[best]
    candidates = boxes_xyxy[anchors]
    if kind == "greedy" or kind == "diou":
        keep = class_aware_nms(
            candidates, values, classes, iou_threshold, kind=kind, most=max_detections
        )
        return Detections(candidates[keep], values[keep], classes[keep])
    keep, lowered = soft_nms(
        candidates,
        values,
        classes,
        iou_threshold,
        kind=kind,
        score_threshold=score_threshold,
        sigma=sigma,
        most=max_detections,
    )
    return Detections(candidates[keep], lowered, classes[keep])


def _best_of_each_class(values: Floats, classes: Indices, most: int) -> Indices:
    """Places of the `most` highest `values [N]` of each class, in rising order."""
    counts = np.bincount(classes)
    if counts.max() <= most:
        return np.arange(len(values))
    order = np.lexsort((-values, classes))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[rank < most])
