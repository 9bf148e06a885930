"""Against the authors' own code, the package ensemble-boxes."""

from __future__ import annotations

import numpy as np
import pytest

from flyweight.core.detections import Detections
from flyweight.labeling.weighted_box_fusion import fuse_boxes
from tests.labeling.plain_detections import detections_of

SIDE = 200.0


def scene(rng: np.random.Generator, sources: int) -> list[Detections]:
    """Objects that each source sees shifted, or not at all, and some that only one imagines."""
    objects = rng.integers(0, 12)
    corners = rng.uniform(0, 0.7 * SIDE, (objects, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(25, 0.3 * SIDE, (objects, 2))], axis=1)
    labels = rng.integers(0, 3, objects)
    found = []
    for _ in range(sources):
        seen = rng.random(objects) < 0.7
        moved = boxes[seen] + rng.normal(0, 3, (int(seen.sum()), 4))
        extra = rng.integers(0, 4)
        corner = rng.uniform(0, 0.7 * SIDE, (extra, 2))
        imagined = np.concatenate([corner, corner + rng.uniform(8, 50, (extra, 2))], axis=1)
        every = np.concatenate([moved, imagined]).clip(0, SIDE)
        found.append(
            detections_of(
                every,
                rng.random(len(every)),
                np.concatenate([labels[seen], rng.integers(0, 3, extra)]),
            )
        )
    return found


@pytest.mark.parametrize("sources", [1, 2, 5])
@pytest.mark.parametrize(("iou_threshold", "least_score"), [(0.55, 0.0), (0.4, 0.3)])
def test_same_boxes_as_the_authors_code(
    sources: int, iou_threshold: float, least_score: float
) -> None:
    oracle = pytest.importorskip("ensemble_boxes").weighted_boxes_fusion
    rng = np.random.default_rng(sources)
    fused_of_several = 0
    for _ in range(40):
        found = scene(rng, sources)
        boxes, scores, labels = oracle(
            [each.boxes_xyxy.astype(np.float64) / SIDE for each in found],
            [each.scores for each in found],
            [each.labels for each in found],
            iou_thr=iou_threshold,
            skip_box_thr=least_score,
        )
        fused = fuse_boxes(found, iou_threshold=iou_threshold, least_score=least_score)
        ours = fused.detections
        assert len(ours) == len(boxes)
        np.testing.assert_array_equal(ours.labels, labels)
        np.testing.assert_allclose(ours.scores, scores, atol=1e-6)
        np.testing.assert_allclose(ours.boxes_xyxy, boxes * SIDE, atol=1e-3)
        fused_of_several += int((fused.votes > 1).sum())
    assert sources == 1 or fused_of_several > 50


def test_hand_worked() -> None:
    """Two of three sources see an object; the weights are 0.8 and 0.4, so two thirds and one."""
    one = detections_of([[0, 0, 30, 30]], [0.8], [1])
    other = detections_of([[3, 0, 33, 30], [100, 100, 120, 120]], [0.4, 0.9], [1, 0])
    fused = fuse_boxes([one, other, Detections.empty()])
    np.testing.assert_allclose(
        fused.detections.boxes_xyxy, [[1, 0, 31, 30], [100, 100, 120, 120]], atol=1e-5
    )
    # (0.8 + 0.4) / 2 · 2 / 3, and 0.9 · 1 / 3
    np.testing.assert_allclose(fused.detections.scores, [0.4, 0.3], atol=1e-6)
    np.testing.assert_array_equal(fused.votes, [2, 1])
    np.testing.assert_array_equal(fused.found_by, [[True, True, False], [False, True, False]])


def test_classes_do_not_mix() -> None:
    fused = fuse_boxes(
        [detections_of([[0, 0, 9, 9]], [0.5], [0]), detections_of([[0, 0, 9, 9]], [0.5], [1])]
    )
    assert sorted(fused.detections.labels) == [0, 1]


def test_nothing_found() -> None:
    fused = fuse_boxes([Detections.empty(), Detections.empty()])
    assert len(fused) == 0
    assert fused.found_by.shape == (0, 2)
