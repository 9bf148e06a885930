from __future__ import annotations

import numpy as np
import pytest

from flyweight.core.detections import Detections
from flyweight.core.drawing import class_colour, draw_boxes, draw_detections


def test_the_border_lies_on_the_box_and_the_original_stays() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    drawn = draw_boxes(image, np.array([[20.0, 30, 60, 80]]), np.array([1]), [""])
    assert not image.any()
    rows, columns = np.nonzero(drawn.any(axis=-1))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (20, 30, 60, 80)
    assert tuple(drawn[30, 40]) == class_colour(1)
    assert not drawn[50, 40].any()


def test_only_detections_above_the_score() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    found = Detections(
        np.array([[10, 30, 40, 60], [60, 60, 90, 90]]), np.array([0.9, 0.2]), np.array([0, 0])
    )
    drawn = draw_detections(image, found, ["card"], score=0.5)
    assert drawn[:, :50].any()
    assert not drawn[62:, 60:].any()


@pytest.mark.parametrize("box", [[-20, -20, 10, 10], [90, 90, 140, 150], [0, 0, 100, 2]])
def test_boxes_at_the_border_do_not_fail(box: list[float]) -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    drawn = draw_boxes(image, np.array([box], float), np.array([0]), ["a long label 0.99"])
    assert drawn.any()


def test_colours_differ() -> None:
    assert len({class_colour(label) for label in range(60)}) == 60
