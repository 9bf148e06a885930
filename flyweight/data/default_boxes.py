"""Default boxes (anchors) from the data: fitted per level, and how much of the data they reach.

SSD (Liu et al. 2016, section 2.2) tiles boxes of fixed sizes over each feature map; its published
sizes start at 0.2 of the image and suit PASCAL VOC. YOLOv2 (Redmon and Farhadi 2017, section 2)
clusters the data set's own boxes with the distance ``1 - IoU``. Here the clustering runs per level,
and the IoU is that of a box whose centre falls anywhere in a cell: with cells of 16 pixels an
object of 20 pixels is matched best by a box larger than itself, which centred IoU cannot see.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.data.records import DetectionDataset

BoxSizes = list[tuple[float, float]]
FloatArray = npt.NDArray[np.float64]

# An object suits a level when its side is at most this many strides: beyond it, the next level's
# receptive field covers it better; below it, finer cells separate crowded objects.
STRIDES_PER_OBJECT = 5.0


def published_default_boxes(
    aspect_ratios: Sequence[Sequence[float]] = ((2, 3),) * 6,
    *,
    min_ratio: float = 0.2,
    max_ratio: float = 0.95,
) -> list[BoxSizes]:
    """The sizes of SSD, equation 4 and the text below it, as in torchvision's SSDlite.

    Returns for each level ``2 + 2 * len(aspect_ratios[level])`` pairs ``(w, h)`` relative to the
    input (0..1): the square, the square of the geometric mean scale, then each ratio and its
    inverse.
    """
    levels = len(aspect_ratios)
    steps = max(levels - 1, 1)
    scales = [min_ratio + (max_ratio - min_ratio) * k / steps for k in range(levels)] + [1.0]
    boxes: list[BoxSizes] = []
    for k, ratios in enumerate(aspect_ratios):
        between = float(np.sqrt(scales[k] * scales[k + 1]))
        level: BoxSizes = [(scales[k], scales[k]), (between, between)]
        for ratio in ratios:
            root = float(np.sqrt(ratio))
            level += [(scales[k] * root, scales[k] / root), (scales[k] / root, scales[k] * root)]
        boxes.append([(min(w, 1.0), min(h, 1.0)) for w, h in level])
    return boxes


def tile_default_boxes(
    grids: Sequence[tuple[int, int]], boxes_wh: Sequence[Sequence[tuple[float, float]]]
) -> FloatArray:
    """Every anchor of the model, ``xyxy [A, 4]`` relative to the input (0..1).

    ``grids`` holds (rows, columns) of each level and ``boxes_wh`` its (w, h) pairs, relative. Cells
    are row-major with the boxes innermost; centres lie in the middle of cells; anchors may reach
    beyond the image, as in torchvision's ``DefaultBoxGenerator``.
    """
    levels: list[FloatArray] = []
    for (rows, columns), sizes in zip(grids, boxes_wh, strict=True):
        cy, cx = np.meshgrid(
            (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij"
        )
        centres = np.stack([cx, cy], axis=-1).reshape(-1, 1, 2)
        half = np.asarray(sizes, np.float64).reshape(1, -1, 2) / 2
        levels.append(np.concatenate([centres - half, centres + half], axis=-1).reshape(-1, 4))
    return np.concatenate(levels)


def relative_boxes(
    datasets: DetectionDataset | Iterable[DetectionDataset],
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """All ordinary objects: boxes ``xyxy [N, 4]`` relative to their image (0..1), labels ``[N]``.

    Crowd regions and empty boxes are left out: no anchor is matched with them.
    """
    if isinstance(datasets, DetectionDataset):
        datasets = [datasets]
    boxes: list[FloatArray] = [np.zeros((0, 4))]
    labels: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for dataset in datasets:
        for record in dataset.records:
            height, width = record.size_hw
            if height <= 0 or width <= 0:
                continue
            relative = record.boxes_xyxy.astype(np.float64) / (width, height, width, height)
            wh = relative[:, 2:] - relative[:, :2]
            usable = ~record.crowd & np.isfinite(relative).all(axis=1) & (wh > 0).all(axis=1)
            boxes.append(relative[usable])
            labels.append(record.labels[usable].astype(np.int64))
    return np.concatenate(boxes), np.concatenate(labels)


def fit_default_boxes(
    dataset: DetectionDataset | Iterable[DetectionDataset],
    grids: Sequence[tuple[int, int]],
    boxes_per_level: Sequence[int],
    input_size_hw: tuple[int, int],
    published_wh: Sequence[Sequence[tuple[float, float]]],
    *,
    jitter: float = 1.5,
    class_balance: float = 0.5,
    samples: int = 3000,
    restarts: int = 6,
    seed: int = 0,
) -> list[BoxSizes]:
    """Default boxes for this data: per level, (w, h) pairs relative to the input, sorted by area.

    Each object goes to the finest level where its side spans at most ``STRIDES_PER_OBJECT``
    strides; objects beyond the coarsest fall to the coarsest level. A level that too few objects
    suit keeps its ``published_wh``: zoom-in crops fill those while training. ``jitter`` is the
    largest factor by which sizes are varied (log-uniformly), since augmentation changes them;
    ``class_balance`` weighs each object by its class count to the power of minus this (0: every
    object alike, 1: every class alike), so that a rare class gets boxes of its own. Images are
    taken as stretched to the input, ``input_size_hw`` in pixels.
    """
    boxes_xyxy, labels = relative_boxes(dataset)
    if len(boxes_xyxy) == 0:
        raise InputError(
            "no object to fit default boxes on", fix="label some images or use the published boxes"
        )
    if jitter < 1:
        raise InputError(f"jitter is {jitter}", where="jitter", fix="give a factor of at least 1")
    height, width = input_size_hw
    strides = np.array([(width / columns, height / rows) for rows, columns in grids])
    wh = np.minimum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 1.0) * (width, height)
    level_of = assign_levels(wh, strides)
    weights = np.bincount(labels)[labels].astype(np.float64) ** -class_balance

    fitted: list[BoxSizes] = []
    for level, count in enumerate(boxes_per_level):
        chosen = level_of == level
        # Fewer objects than a box needs to be more than one object's portrait.
        if chosen.sum() < 2 * count:
            fitted.append([(float(w), float(h)) for w, h in published_wh[level]])
            continue
        rng = np.random.default_rng([seed, level])
        p = weights[chosen] / weights[chosen].sum()
        drawn = wh[chosen][rng.choice(int(chosen.sum()), samples, p=p)]
        # Side and shape vary apart: scaling is what augmentation does, aspect only a little.
        drawn = drawn * jitter ** rng.uniform(-1, 1, (samples, 1))
        drawn = drawn * jitter ** (rng.uniform(-1, 1, (samples, 2)) / 4)
        drawn = np.minimum(drawn, (width, height))
        offsets = rng.uniform(-0.5, 0.5, (samples, 2)) * strides[level]
        centres = _cluster(drawn, offsets, count, rng=rng, restarts=restarts)
        centres = np.minimum(centres, (width, height))
        centres = centres[np.argsort(centres.prod(axis=1), kind="stable")]
        fitted.append([(float(w / width), float(h / height)) for w, h in centres])
    return fitted


def assign_levels(wh: FloatArray, strides: FloatArray) -> npt.NDArray[np.int64]:
    """The level of each object: ``wh [N, 2]`` and ``strides [L, 2]`` (x, y) in input pixels."""
    side = np.sqrt(wh.prod(axis=1))
    limits = STRIDES_PER_OBJECT * np.sqrt(strides.prod(axis=1))
    fits = side[:, None] <= limits[None, :]
    return np.where(fits.any(axis=1), fits.argmax(axis=1), len(strides) - 1).astype(np.int64)


def _offset_iou(wh: FloatArray, offsets: FloatArray, anchors_wh: FloatArray) -> FloatArray:
    """IoU ``[N, K]`` of objects ``wh [N, 2]`` with anchors ``[K, 2]`` whose centres lie
    ``offsets [N, 2]`` away; all in pixels."""
    # N objects, K anchors
    half = wh[:, None] / 2
    half_anchor = anchors_wh[None] / 2
    shift = np.abs(offsets)[:, None]
    overlap = np.minimum(half, half_anchor - shift) + np.minimum(half, half_anchor + shift)
    inter = np.clip(overlap, 0, None).prod(axis=2)
    union = wh.prod(axis=1)[:, None] + anchors_wh.prod(axis=1)[None] - inter
    return np.asarray(inter / union)


def _cluster(
    wh: FloatArray,
    offsets: FloatArray,
    count: int,
    *,
    rng: np.random.Generator,
    restarts: int,
) -> FloatArray:
    """k-means with the distance ``1 - IoU`` under offsets, the best of several seedings, climbed.

    ``wh`` and ``offsets`` are ``[N, 2]`` pixels; returns ``[count, 2]``.
    """
    best, best_score = wh[:count], -1.0
    for _ in range(restarts):
        centres = _seed_centres(wh, count, rng)
        owner = np.full(len(wh), -1)
        for _ in range(30):
            nearest = _offset_iou(wh, offsets, centres).argmax(axis=1)
            if (nearest == owner).all():
                break
            owner = nearest
            for k in range(count):
                if (owner == k).any():
                    centres[k] = np.median(wh[owner == k], axis=0)
        score = float(_match_quality(_offset_iou(wh, offsets, centres).max(axis=1)))
        if score > best_score:
            best, best_score = centres, score
    return _climb(wh, offsets, best)


def _seed_centres(wh: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    """k-means++ (Arthur and Vassilvitskii 2007) with the distance ``1 - IoU``, ``[count, 2]``."""
    still = np.zeros_like(wh)
    centres = wh[rng.integers(len(wh))][None]
    while len(centres) < count:
        distance = 1 - _offset_iou(wh, still, centres).max(axis=1)
        distance = np.clip(distance, 0, None) ** 2 + 1e-12
        chosen = rng.choice(len(wh), p=distance / distance.sum())
        centres = np.concatenate([centres, wh[chosen][None]])
    return centres.copy()


def _match_quality(best_iou: FloatArray) -> float:
    """Mean best IoU plus the share that passes SSD's matching threshold, softened around 0.5.

    The share alone is flat nearly everywhere and the mean alone spends boxes on what is matched
    anyway; the logistic step has the slope to climb."""
    return float(best_iou.mean() + (1 / (1 + np.exp(-(best_iou - 0.5) / 0.05))).mean())


def _climb(wh: FloatArray, offsets: FloatArray, centres: FloatArray) -> FloatArray:
    """Coordinate ascent of the match quality over each box's width and height, ``[K, 2]``.

    The median of a cluster centres it; with offsets the best box is larger than the median."""
    centres = centres.copy()
    iou = _offset_iou(wh, offsets, centres)
    score = _match_quality(iou.max(axis=1))
    moves = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)], np.float64)
    for step in (0.2, 0.1, 0.05, 0.025):
        for _ in range(12):
            before = score
            for k in range(len(centres)):
                others = np.delete(iou, k, axis=1).max(axis=1, initial=0.0)
                trials = centres[k] * np.exp(step * moves)
                trial_iou = _offset_iou(wh, offsets, trials)
                scores = [_match_quality(np.maximum(others, column)) for column in trial_iou.T]
                winner = int(np.argmax(scores))
                if scores[winner] > score + 1e-6:
                    score = scores[winner]
                    centres[k], iou[:, k] = trials[winner], trial_iou[:, winner]
            if score - before < 1e-5:
                break
    return centres
