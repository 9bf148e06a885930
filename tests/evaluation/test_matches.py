"""Which detection hits which object, on scenes small enough to match by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flyweight.core.detections import Detections
from flyweight.data.records import DetectionDataset
from flyweight.evaluation.matches import counted_detections, match

Label = Callable[..., DetectionDataset]
Find = Callable[..., Detections]
AT_HALF = np.array([0.5])


def test_the_best_scored_detection_takes_the_object(labels_of: Label, finds: Find) -> None:
    data = labels_of([[(0, 0, 100, 100, 0), (200, 0, 300, 100, 0)]])
    found = finds(
        (0, 0, 100, 100, 0, 0.5), (0, 0, 100, 90, 0, 0.9), (200, 0, 300, 100, 1, 0.8)
    )  # fmt: skip
    matches = match(data, [found])
    assert matches.label.tolist() == [0, 1, 0]
    assert matches.place.tolist() == [0, 1, 2]
    # IoU 0.9 holds up to the threshold 0.90; beyond it the exact box is the one that hits
    assert matches.target[:, 0].tolist() == [0] * 9 + [-1]
    assert matches.target[:, 1].tolist() == [-1] * 10
    assert matches.target[:, 2].tolist() == [-1] * 9 + [0]
    assert matches.objects.tolist() == [[2, 0]]
    assert not matches.ignored.any()


def test_a_detection_takes_the_object_that_it_fits_best(labels_of: Label, finds: Find) -> None:
    data = labels_of([[(0, 0, 100, 100, 0), (0, 0, 100, 80, 0)]])
    matches = match(data, [finds((0, 0, 100, 82, 0, 0.9))], iou_thresholds=AT_HALF)
    assert matches.target.tolist() == [[1]]


def test_a_crowd_is_taken_by_everything_inside_it(labels_of: Label, finds: Find) -> None:
    data = labels_of([[(0, 0, 400, 400, 0, "crowd")]])
    found = finds((0, 0, 50, 50, 0, 0.9), (100, 100, 150, 150, 0, 0.8), (390, 0, 490, 50, 0, 0.7))
    matches = match(data, [found], iou_thresholds=AT_HALF)
    assert matches.ignored.tolist() == [[True, True, False]]
    assert not matches.hit.any()
    assert matches.objects.tolist() == [[0, 0]]


def test_an_object_that_counts_goes_before_a_difficult_one(labels_of: Label, finds: Find) -> None:
    data = labels_of([[(0, 0, 100, 100, 0, "difficult"), (0, 0, 100, 60, 0)]])
    found = finds((0, 0, 100, 100, 0, 0.9), (0, 0, 100, 100, 0, 0.8))
    matches = match(data, [found], iou_thresholds=AT_HALF)
    assert matches.target.tolist() == [[1, 0]]
    assert matches.hit.tolist() == [[True, False]]
    assert matches.ignored.tolist() == [[False, True]]


def test_images_without_objects_or_detections(labels_of: Label, finds: Find) -> None:
    data = labels_of([[], [(0, 0, 9, 9, 1)], []])
    matches = match(data, [finds(), finds(), finds((0, 0, 9, 9, 1, 0.5))])
    assert matches.image.tolist() == [2]
    assert matches.target.shape == (10, 1)
    assert matches.objects.tolist() == [[0, 0], [0, 1], [0, 0]]


def test_a_hundred_detections_of_each_class_are_counted() -> None:
    scores = np.linspace(1, 0, 160, dtype=np.float32)
    labels = np.arange(160) % 16 == 5
    found = Detections(np.zeros((160, 4), np.float32), scores, labels.astype(np.int64))
    kept = counted_detections(found)
    assert int(labels[kept].sum()) == 10
    assert kept[~labels[kept]].tolist() == np.flatnonzero(~labels)[:100].tolist()


def test_a_score_that_is_no_number_is_not_counted(finds: Find) -> None:
    found = finds((0, 0, 9, 9, 0, np.nan), (0, 0, 9, 9, 0, 0.5))
    assert found.scores[counted_detections(found)].tolist() == [0.5]
