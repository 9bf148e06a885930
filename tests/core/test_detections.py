from __future__ import annotations

import numpy as np
import pytest

from flyweight.core.detections import Detections


def three() -> Detections:
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    return Detections(boxes, np.array([0.2, 0.9, 0.5]), np.array([0, 1, 0]))


def test_sorted_by_score() -> None:
    found = three()
    np.testing.assert_allclose(found.scores, [0.9, 0.5, 0.2])
    np.testing.assert_array_equal(found.boxes_xyxy[:, 0], [4, 8, 0])
    np.testing.assert_array_equal(found.labels, [1, 0, 0])


@pytest.mark.parametrize(("score", "count"), [(0.0, 3), (0.5, 2), (0.51, 1), (0.95, 0)])
def test_above_keeps_the_equal(score: float, count: int) -> None:
    assert len(three().above(score)) == count


def test_lengths_must_match() -> None:
    with pytest.raises(ValueError, match="do not match"):
        Detections(np.zeros((2, 4)), np.zeros(3), np.zeros(3))


def test_to_list() -> None:
    first = three().to_list(["red", "white"])[0]
    assert first == {"label": "white", "class_id": 1, "score": 0.9, "box_xyxy": [4, 5, 6, 7]}
    assert Detections.empty().to_list(["red"]) == []
