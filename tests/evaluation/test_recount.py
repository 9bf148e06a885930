"""AP from matches equals that of faster-coco-eval, which test_coco_ap holds to pycocotools."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from flyweight.core.detections import Detections
from flyweight.data.records import DetectionDataset
from flyweight.evaluation import average_precision, recount
from flyweight.evaluation.matches import match
from flyweight.evaluation.recount import Recount

Scenes = Callable[..., tuple[DetectionDataset, list[Detections]]]
AT_75 = 5


def assert_equal(counted: np.ndarray, data: DetectionDataset, detections: list[Detections]) -> None:
    result = average_precision(data, detections)
    assert result.AP is not None
    assert 0.05 < result.AP < 0.95
    assert counted.mean() == pytest.approx(result.AP, abs=1e-9)
    assert counted[0] == pytest.approx(result.AP50, abs=1e-9)
    assert counted[AT_75] == pytest.approx(result.AP75, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_unweighted_it_is_the_ap_of_the_reference(random_scenes: Scenes, seed: int) -> None:
    # two decimals, so that scores tie within images and between them
    data, detections = random_scenes(seed, decimals=2)
    assert any(record.crowd.any() for record in data.records)
    assert any(record.difficult.any() for record in data.records)
    (counted,) = Recount(match(data, detections)).average_precision()
    assert_equal(counted, data, detections)


def test_unweighted_with_more_than_a_hundred_detections_of_a_class(
    labels_of: Callable[..., DetectionDataset],
) -> None:
    rng = np.random.default_rng(3)
    low = rng.uniform(0, 400, (150, 2))
    boxes = np.concatenate([low, low + rng.uniform(20, 40, (150, 2))], axis=1)
    data = labels_of([[(*box, 0) for box in boxes]], 1)
    detections = [Detections(boxes, rng.random(150, np.float32), np.zeros(150, np.int64))]
    (counted,) = Recount(match(data, detections)).average_precision()
    assert_equal(counted, data, detections)


@pytest.mark.parametrize("seed", range(6))
def test_weights_are_how_often_an_image_is_there(random_scenes: Scenes, seed: int) -> None:
    data, detections = random_scenes(seed)
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(data)))
    counted = Recount(match(data, detections)).average_precision(weights)
    for row, values in zip(weights, counted, strict=True):
        # the images once more, as images of their own
        places = np.repeat(np.arange(len(data)), row)
        assert_equal(values, data.subset(places), [detections[place] for place in places])


def test_many_resamples_are_counted_in_parts(
    random_scenes: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, detections = random_scenes(0)
    weights = np.random.default_rng(0).integers(0, 3, (7, len(data)))
    counted = Recount(match(data, detections))
    together = counted.average_precision(weights)
    monkeypatch.setattr(recount, "MOST_CELLS", 1)
    np.testing.assert_array_equal(counted.average_precision(weights), together)


def test_a_class_counts_where_it_has_objects(
    labels_of: Callable[..., DetectionDataset], finds: Callable[..., Detections]
) -> None:
    data = labels_of([[(0, 0, 50, 50, 0)], [(0, 0, 50, 50, 1)], []])
    detections = [finds((0, 0, 50, 50, 0, 0.9)), finds((60, 60, 99, 99, 1, 0.9)), finds()]
    weights = np.array([[1, 1, 0], [2, 0, 0], [0, 3, 0], [0, 0, 4]])
    counted = Recount(match(data, detections)).average_precision(weights)
    # class 0 is found, class 1 is not; the last image has no object at all
    np.testing.assert_allclose(counted[:, 0], [0.5, 1.0, 0.0, np.nan], atol=1e-12)
