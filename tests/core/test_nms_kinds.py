"""DIoU-NMS and Soft-NMS against slow restatements of the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flyweight.core.nms import class_aware_nms, soft_nms

Box = list[float]
SOFT = ["soft_linear", "soft_gaussian"]


def crowd(seed: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 60, (count, 2))], 1).astype(np.float32)
    return boxes, rng.random(count).astype(np.float32), rng.integers(0, classes, count)


def iou_of(a: Box, b: Box) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union else 0.0


def diou_of(a: Box, b: Box) -> float:
    diagonal = math.dist((min(a[0], b[0]), min(a[1], b[1])), (max(a[2], b[2]), max(a[3], b[3])))
    centres = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (a, b)]
    return iou_of(a, b) - (math.dist(*centres) / diagonal) ** 2 if diagonal else 0.0


def slow_diou_nms(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, threshold: float
) -> list[int]:
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        rivals = [other for other in kept if labels[other] == labels[index]]
        if all(diou_of(boxes[o].tolist(), boxes[index].tolist()) <= threshold for o in rivals):
            kept.append(index)
    return kept


def slow_soft_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    kind: str,
    threshold: float,
    floor: float,
    sigma: float,
) -> list[tuple[int, float]]:
    """Figure 2 of the paper, one class after the other."""
    found: list[tuple[int, float]] = []
    for label in set(labels.tolist()):
        left = {i: float(scores[i]) for i in range(len(scores)) if labels[i] == label}
        while left:
            best = max(left, key=lambda index: left[index])
            value = left.pop(best)
            if value <= floor:
                break
            found.append((best, value))
            for other in left:
                overlap = iou_of(boxes[best].tolist(), boxes[other].tolist())
                if kind == "soft_gaussian":
                    left[other] *= math.exp(-(overlap**2) / sigma)
                elif overlap >= threshold:
                    left[other] *= 1 - overlap
    return sorted(found, key=lambda pair: -pair[1])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_diou_nms_is_the_papers(seed: int, threshold: float) -> None:
    # More candidates than one chunk, so that kept boxes meet later ones too.
    boxes, scores, labels = crowd(seed, 300, 3)
    keep = class_aware_nms(boxes, scores, labels, threshold, kind="diou")
    assert keep.tolist() == slow_diou_nms(boxes, scores, labels, threshold)
    assert len(keep) > len(class_aware_nms(boxes, scores, labels, threshold))


def test_diou_nms_keeps_neighbours_whose_centres_are_apart() -> None:
    # IoU 6 · 10 / (200 - 60) = 0.43; centres 4 apart in a box of 14 x 10: 16 / 296 = 0.054 less.
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10]], np.float32)
    scores, labels = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64)
    assert len(class_aware_nms(boxes, scores, labels, 0.4)) == 1
    assert len(class_aware_nms(boxes, scores, labels, 0.4, kind="diou")) == 2
    assert len(class_aware_nms(boxes, scores, labels, 0.37, kind="diou")) == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", SOFT)
@pytest.mark.parametrize(("floor", "sigma"), [(0.001, 0.5), (0.2, 0.3)])
def test_soft_nms_is_the_papers(seed: int, kind: str, floor: float, sigma: float) -> None:
    boxes, scores, labels = crowd(seed, 80, 3)
    keep, lowered = soft_nms(
        boxes, scores, labels, 0.3, kind=kind, score_threshold=floor, sigma=sigma
    )
    expected = slow_soft_nms(
        boxes, scores, labels, kind=kind, threshold=0.3, floor=floor, sigma=sigma
    )
    assert keep.tolist() == [index for index, _ in expected]
    np.testing.assert_allclose(lowered, [value for _, value in expected], rtol=1e-4)
    assert (lowered > floor).all()


def test_soft_nms_by_hand() -> None:
    # The second box has IoU 0.6 with the first, the third 1, of another class.
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 10]], np.float32)
    scores, labels = np.array([0.9, 0.8, 0.5], np.float32), np.array([0, 0, 1])
    keep, lowered = soft_nms(boxes, scores, labels, 0.5, kind="soft_linear", score_threshold=0.1)
    assert keep.tolist() == [0, 2, 1]
    np.testing.assert_allclose(lowered, [0.9, 0.5, 0.8 * 0.4], rtol=1e-6)
    _, lowered = soft_nms(boxes, scores, labels, 0.5, kind="soft_gaussian", score_threshold=0.1)
    np.testing.assert_allclose(lowered, [0.9, 0.5, 0.8 * math.exp(-0.36 / 0.5)], rtol=1e-6)
    keep, _ = soft_nms(boxes, scores, labels, 0.5, kind="soft_linear", score_threshold=0.1, most=2)
    assert keep.tolist() == [0, 2]


def test_the_same_box_twice_leaves_one() -> None:
    boxes = np.array([[0, 0, 10, 10]] * 2, np.float32)
    scores, labels = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64)
    keep, _ = soft_nms(boxes, scores, labels, 0.5, kind="soft_linear", score_threshold=0.0)
    assert keep.tolist() == [0]


@pytest.mark.parametrize("kind", SOFT)
def test_no_candidates(kind: str) -> None:
    empty = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    keep, lowered = soft_nms(*empty, 0.5, kind=kind, score_threshold=0.1)
    assert len(keep) == len(lowered) == 0
    assert len(class_aware_nms(*empty, 0.5, kind="diou")) == 0


def test_points_do_not_divide_by_nothing() -> None:
    boxes = np.full((3, 4), 5, np.float32)
    scores, labels = np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int64)
    assert len(class_aware_nms(boxes, scores, labels, 0.5, kind="diou")) == 3
    keep, _ = soft_nms(boxes, scores, labels, 0.5, kind="soft_gaussian", score_threshold=0.1)
    assert len(keep) == 3
