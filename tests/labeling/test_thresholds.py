from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flyweight.core.detections import Detections
from flyweight.core.errors import InputError
from flyweight.data.records import DetectionDataset, Record
from flyweight.labeling.thresholds import (
    calibrate,
    calibrate_on_pictures,
    count_threshold,
    precision_threshold,
)
from tests.labeling.plain_detections import detections_of


def box_at(place: int) -> list[float]:
    """10 pixels square, at 20 k."""
    return [20.0 * place, 0, 20.0 * place + 10, 10]


def record(number: int, labels: list[int], *, crowd: bool = False) -> Record:
    """Objects side by side: number k of a picture at 20 k."""
    boxes = np.array([box_at(place) for place in range(len(labels))], np.float32)
    return Record(
        number,
        Path(f"{number}.jpg"),
        (50, 400),
        boxes,
        np.array(labels, np.int64),
        np.full(len(labels), crowd),
        np.zeros(len(labels), bool),
    )


def dataset(*records: Record) -> DetectionDataset:
    return DetectionDataset(records, ("a", "b", "rare"), Path("data"), "val", "coco")


def found(*boxes: tuple[int, float, int]) -> Detections:
    """Detections (place, score, label), see `record`; a place of -1 is beside everything."""
    return detections_of(
        np.array([box_at(place) for place, _, _ in boxes]).reshape(-1, 4),
        [score for _, score, _ in boxes],
        [label for _, _, label in boxes],
    )


# Of `a` four objects, of `b` two, of `rare` one; `a` is right at 0.9, 0.8 and 0.4, wrong at 0.6.
LABELLED = dataset(record(1, [0, 0, 1]), record(2, [0, 0, 1, 2]))
FOUND = [
    found((0, 0.9, 0), (1, 0.4, 0), (2, 0.7, 1), (9, 0.2, 0)),
    found((0, 0.8, 0), (9, 0.6, 0), (2, 0.5, 1), (9, 0.3, 1), (3, 0.1, 2)),
]


def test_as_many_boxes_as_objects() -> None:
    a, b, rare = calibrate(LABELLED, FOUND, least_objects=2, uncertain=0.5)
    # scores of a: 0.9 0.8 0.6 0.4 | 0.2; of b: 0.7 0.5 | 0.3
    assert (a.upper, b.upper) == (pytest.approx(0.3), pytest.approx(0.4))
    assert a.lower == pytest.approx(0.15)
    assert (a.objects, a.predicted, a.precision, a.recall) == (4, 4, 0.75, 0.75)
    assert (b.objects, b.predicted, b.precision, b.recall) == (2, 2, 1.0, 1.0)
    # seven objects of all classes: 0.9 0.8 0.7 0.6 0.5 0.4 0.3 | 0.2
    assert rare.pooled
    assert rare.upper == pytest.approx(0.25)
    assert not a.pooled


def test_lowest_threshold_of_a_precision() -> None:
    a, b, rare = calibrate(LABELLED, FOUND, precision=0.9, least_objects=2)
    # a: 1/1, 2/2, 2/3, 3/4, 3/5; b: 1/1, 2/2, 2/3; together the wrong one comes fourth
    assert (a.upper, a.predicted, a.precision) == (pytest.approx(0.7), 2, 1.0)
    assert b.upper == pytest.approx(0.4)
    assert rare.upper == pytest.approx(0.65)
    assert math.isnan(rare.precision)


def test_a_precision_that_is_never_reached_keeps_nothing() -> None:
    wrong = [found((9, 0.9, 0), (0, 0.8, 0)), found((2, 0.7, 1))]
    a, _, _ = calibrate(LABELLED, wrong, precision=0.95, least_objects=2)
    assert a.upper == math.inf
    assert (a.lower, a.predicted) == (0.0, 0)
    assert json.loads(json.dumps(a.to_dict(), allow_nan=False))["upper"] is None


def test_crowds_do_not_count() -> None:
    with_crowd = dataset(*LABELLED.records, record(3, [0, 0, 0], crowd=True))
    assert calibrate(with_crowd, [*FOUND, found((0, 0.95, 0))], least_objects=2) == calibrate(
        LABELLED, FOUND, least_objects=2
    )


def test_the_kept_number_is_the_labelled_one_on_random_scores() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        score = np.sort(rng.random(40))[::-1]
        count = int(rng.integers(1, 40))
        assert (score >= count_threshold(score, count)).sum() == count


def test_no_lower_threshold_has_the_precision() -> None:
    """Against the search over all thresholds that could matter."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        score = np.sort(rng.integers(1, 20, 30) / 20)[::-1]
        hit = rng.random(30) < score
        kept = [(score >= limit, limit) for limit in np.unique(score)]
        good = [limit for keep, limit in kept if hit[keep].mean() >= 0.8]
        threshold = precision_threshold(score, hit, 0.8)
        if good:
            np.testing.assert_array_equal(score >= threshold, score >= min(good))
        else:
            assert threshold == math.inf


def test_fewer_boxes_than_objects_are_all_kept() -> None:
    assert count_threshold(np.array([0.9, 0.2]), 5) == 0.2
    assert count_threshold(np.zeros(0), 5) == math.inf


def test_bad_input() -> None:
    with pytest.raises(InputError, match="7 labelled objects are too few"):
        calibrate(LABELLED, FOUND)
    with pytest.raises(InputError, match="precision"):
        calibrate(LABELLED, FOUND, precision=1.5)
    with pytest.raises(InputError, match="uncertain"):
        calibrate(LABELLED, FOUND, uncertain=2, least_objects=1)
    empty = replace(LABELLED, records=(record(1, [0]),))
    with pytest.raises(InputError, match="1 labelled objects"):
        calibrate(empty, [found()])


def test_as_many_labels_a_picture_as_objects_an_image() -> None:
    """By hand: 2 objects of `a` and 1 of `b` an image leave 6 and 3 labels in three pictures."""
    pictures = [
        *FOUND,
        found((0, 0.95, 0), (1, 0.85, 0), (2, 0.3, 0), (0, 0.65, 1), (1, 0.55, 1)),
    ]
    a, b, rare = calibrate_on_pictures(LABELLED, iter(pictures), least_objects=2, uncertain=0.5)
    # a: .95 .9 .85 .8 .6 .4 | .3 .2; b: .7 .65 .55 | .5 .3; of all 10.5, so 10: ... .5 .4 | .3
    assert (a.upper, a.lower, a.predicted) == pytest.approx((0.35, 0.175, 6))
    assert (b.upper, b.predicted) == pytest.approx((0.525, 3))
    assert rare.pooled
    assert rare.upper == pytest.approx(0.35)
    assert rare.predicted == 0
    assert all(math.isnan(each.precision) and math.isnan(each.recall) for each in (a, b, rare))
    assert (a.objects, b.objects, rare.objects) == (4, 2, 1)


def test_crowds_are_no_objects_of_an_image() -> None:
    some = dataset(record(1, [0, 0]), record(2, [0, 0, 0, 0], crowd=True))
    (a, *_) = calibrate_on_pictures(some, [FOUND[0], FOUND[1]], least_objects=1)
    assert a.predicted == 2  # 1 an image


def test_labelled_images_without_objects() -> None:
    with pytest.raises(InputError, match="too few"):
        calibrate_on_pictures(dataset(record(1, [])), FOUND, least_objects=1)
