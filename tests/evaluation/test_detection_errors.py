"""TIDE's kinds of errors: one scene a kind worked by hand, tidecv's own figures, invariants."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flyweight.core.detections import Detections
from flyweight.data.records import DetectionDataset
from flyweight.evaluation import average_precision, find_errors
from flyweight.evaluation.detection_errors import (
    FALSE_POSITIVES,
    KINDS,
    MENDED,
    MISSED,
    DetectionErrors,
)
from flyweight.evaluation.matches import counted_objects

Label = Callable[..., DetectionDataset]
Find = Callable[..., Detections]
Scenes = Callable[..., tuple[DetectionDataset, list[Detections]]]

OBJECT = (0, 0, 100, 100, 0)
SHIFTED = (50, 0, 150, 100)  # IoU with OBJECT: 5,000 of 15,000
ELSEWHERE = (300, 300, 400, 400)


def assert_only(errors: DetectionErrors, counts: dict[str, int], gains: dict[str, float]) -> None:
    """Those counts and gains, and zero for all other kinds."""
    assert {kind: errors.count(kind) for kind in KINDS} == dict.fromkeys(KINDS, 0) | counts
    expected = dict.fromkeys(KINDS, 0.0) | gains
    assert errors.gains == pytest.approx(expected, abs=1e-9)


def test_localisation(labels_of: Label, finds: Find) -> None:
    errors = find_errors(labels_of([[OBJECT]]), [finds((*SHIFTED, 0, 0.9))])
    # the object is not missed: with a better box it would be found
    assert_only(errors, {"localisation": 1}, {"localisation": 1.0})
    assert errors.cause.tolist() == [0]


def test_classification(labels_of: Label, finds: Find) -> None:
    errors = find_errors(labels_of([[OBJECT]]), [finds((0, 0, 100, 90, 1, 0.9))])
    assert_only(errors, {"classification": 1}, {"classification": 1.0})
    assert errors.cause.tolist() == [0]


def test_both(labels_of: Label, finds: Find) -> None:
    data = labels_of([[OBJECT, (*ELSEWHERE, 1)]])
    errors = find_errors(data, [finds((*SHIFTED, 1, 0.9), (*ELSEWHERE, 1, 0.5))])
    # class 0 has AP 0, class 1 precision 1/2 at every recall: without the false one 1; of class 0
    # nothing is left to find without the missed object
    ap50 = errors.AP50
    assert ap50 == pytest.approx(0.25)
    assert_only(errors, {"both": 1, MISSED: 1}, {"both": 0.25, MISSED: 0.5})
    assert errors.class_gains["both"].tolist() == pytest.approx([0, 0.5])
    assert errors.class_gains[MISSED].tolist() == pytest.approx([1, 0])
    assert errors.cause.tolist() == [0, 1]


def test_duplicate(labels_of: Label, finds: Find) -> None:
    data = labels_of([[OBJECT, (*ELSEWHERE, 0)]])
    found = finds((*OBJECT, 0.9), (0, 0, 100, 90, 0, 0.8), (*ELSEWHERE, 0, 0.7))
    errors = find_errors(data, [found])
    # the upper 50 of the 101 recall points have a precision of 2/3
    assert_only(errors, {"duplicate": 1}, {"duplicate": 50 / 101 / 3})
    assert errors.of("duplicate").tolist() == [1]
    assert errors.cause.tolist() == [0, 0, 1]


def test_background(labels_of: Label, finds: Find) -> None:
    errors = find_errors(labels_of([[OBJECT]]), [finds((*ELSEWHERE, 0, 0.9), (*OBJECT, 0.8))])
    assert_only(errors, {"background": 1}, {"background": 0.5})
    assert errors.cause.tolist() == [-1, 0]


def test_missed(labels_of: Label, finds: Find) -> None:
    data = labels_of([[OBJECT], [(*ELSEWHERE, 0)]])
    errors = find_errors(data, [finds((*OBJECT, 0.9)), finds()])
    assert_only(errors, {MISSED: 1}, {MISSED: 50 / 101})
    assert errors.missed.tolist() == [[1, 0]]


def test_an_oracle_mends_one_detection_of_an_object(labels_of: Label, finds: Find) -> None:
    data = labels_of([[OBJECT, (*ELSEWHERE, 0)]])
    found = finds((*SHIFTED, 0, 0.9), (-50, 0, 50, 100, 0, 0.8), (*ELSEWHERE, 0, 0.7))
    errors = find_errors(data, [found])
    # now the only hit comes third: 1/3 up to recall 1/2; were both made hits, one would be false
    ap50 = errors.AP50
    assert ap50 == pytest.approx(51 / 101 / 3)
    assert_only(errors, {"localisation": 2}, {"localisation": 1 - 51 / 101 / 3})


def test_a_mended_detection_does_not_hit_an_object_twice(labels_of: Label, finds: Find) -> None:
    """The object is found already, so the oracle takes the badly placed box away."""
    data = labels_of([[OBJECT]])
    errors = find_errors(data, [finds((*SHIFTED, 0, 0.9), (*OBJECT, 0.8))])
    assert_only(errors, {"localisation": 1}, {"localisation": 0.5})


def test_localisation_goes_before_classification(labels_of: Label, finds: Find) -> None:
    data = labels_of([[OBJECT, (*SHIFTED, 1)]])
    errors = find_errors(data, [finds((*SHIFTED, 0, 0.9))])
    assert errors.count("localisation") == 1
    assert errors.missed.tolist() == [[0, 1]]


def test_crowds_and_difficult_objects_are_no_errors(labels_of: Label, finds: Find) -> None:
    data = labels_of([[OBJECT, (200, 0, 400, 200, 0, "crowd"), (*ELSEWHERE, 1, "difficult")]])
    found = finds((*OBJECT, 0.9), (220, 20, 250, 50, 0, 0.8))
    assert_only(find_errors(data, [found]), {}, {})


def test_causes_are_rows_of_the_record(labels_of: Label, finds: Find) -> None:
    """An object that does not count comes first and shifts none of them."""
    data = labels_of([[(200, 0, 400, 200, 0, "difficult"), OBJECT, (*ELSEWHERE, 1)]])
    errors = find_errors(data, [finds((*SHIFTED, 0, 0.9))])
    assert errors.cause.tolist() == [1]
    assert errors.missed.tolist() == [[0, 2]]
    assert errors.gains["localisation"] == pytest.approx(0.5)


def test_without_objects_all_is_background(labels_of: Label, finds: Find) -> None:
    errors = find_errors(labels_of([[], []]), [finds((*OBJECT, 0.9)), finds()])
    assert errors.AP50 is None
    assert errors.gains == {}
    assert errors.count("background") == 1


def test_figures_of_tidecv(labels_of: Label, finds: Find) -> None:
    """Scenes where no object has two mended kinds: there the paper and its code part.

    The code lets a better scored localisation error of an object keep a classification error of
    the same object from being mended, though the paper mends one kind at a time.
    """
    content = json.loads((Path(__file__).parent / "tide_scenes.json").read_text())
    data = labels_of([image["objects"] for image in content["images"]], content["classes"])
    errors = find_errors(data, [finds(*image["detections"]) for image in content["images"]])
    ap50 = errors.AP50
    assert ap50 == pytest.approx(content["AP50"], abs=1e-8)
    for kind, expected in content["errors"].items():
        assert errors.count(kind) == expected["count"] > 0
        assert errors.gains[kind] == pytest.approx(expected["AP50_gain"], abs=1e-8)
    assert set(content["errors"]) == set(KINDS)


@pytest.mark.parametrize("seed", range(5))
def test_everything_wrong_is_named_once(random_scenes: Scenes, seed: int) -> None:
    data, detections = random_scenes(seed)
    errors = find_errors(data, detections)
    matches = errors.matches
    false = matches.target[0] < 0
    assert false.any()
    # every false positive has a kind, nothing else has one
    np.testing.assert_array_equal(errors.kind >= 0, false)
    assert sum(errors.count(kind) for kind in FALSE_POSITIVES) == false.sum()
    # every object that counts is hit, covered by an error that could be mended, or missed
    mended = np.isin(errors.kind, [FALSE_POSITIVES.index(kind) for kind in MENDED])
    owners = {"hit": matches.hit[0], "covered": mended}
    found = {
        name: set(zip(matches.image[rows].tolist(), errors.cause[rows].tolist(), strict=True))
        for name, rows in owners.items()
    }
    missed = set(map(tuple, errors.missed.tolist()))
    counted = {
        (image, row)
        for image, record in enumerate(data.records)
        for row in np.flatnonzero(counted_objects(record)).tolist()
    }
    assert missed == counted - found["hit"] - found["covered"]
    assert len(found["hit"]) == matches.hit.sum()
    ap50 = errors.AP50
    assert ap50 == pytest.approx(average_precision(data, detections).AP50, abs=1e-9)
    assert all(gain >= 0 for gain in errors.gains.values())


def test_the_cost_of_an_image(labels_of: Label, finds: Find) -> None:
    data = labels_of([[OBJECT, (*ELSEWHERE, 0)], [OBJECT], []])
    found = [
        finds((*OBJECT, 0.9), (*SHIFTED, 1, 0.6), (*ELSEWHERE, 0, 0.2)),
        finds((*OBJECT, 0.9), (*ELSEWHERE, 0, 0.1)),
        finds((*OBJECT, 0.8)),
    ]
    errors = find_errors(data, found)
    # one object that only a low score finds, and one false detection of 0.6
    assert errors.image_cost(0.5).tolist() == pytest.approx([1.6, 0.0, 0.8])
    assert errors.image_cost(0.0).tolist() == pytest.approx([0.6, 0.1, 0.8])


def test_errors_are_ordered_by_what_they_cost_their_class(labels_of: Label, finds: Find) -> None:
    """Class 0 has four objects, class 1 one, class 2 none: there errors cost nothing."""
    apart = [(left, 0, left + 50, 50, 0) for left in range(0, 400, 100)]
    data = labels_of([[*apart, (*ELSEWHERE, 1)]], 3)
    free = (0, 200, 50, 250)
    found = finds(
        (*free, 2, 0.95), (*apart[0], 0.9), (*free, 0, 0.8), (*free, 0, 0.7), (*free, 1, 0.6),
        (*free, 1, 0.5),
    )  # fmt: skip
    errors = find_errors(data, [found])
    scores = errors.matches.score
    # ranks 0/1 and 1/1 of class 1, 1/4 and 2/4 of class 0
    assert scores[errors.of("background")] == pytest.approx([0.6, 0.8, 0.7, 0.5, 0.95])
    assert scores[errors.of("background", score=0.65)] == pytest.approx([0.8, 0.7, 0.95])
    assert errors.count("background", score=0.65) == 3
