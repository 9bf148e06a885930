from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyweight.transforms.geometry import View, scaling
from flyweight.transforms.layers import Layer, Patch
from flyweight.transforms.pictures import Picture
from flyweight.transforms.visible_boxes import seen_of, uncovered, visible_boxes

SIZE = 24
WINDOW = (0, 0, SIZE, SIZE)
NOTHING = np.zeros(3, np.uint8)


@st.composite
def rectangles(draw: st.DrawFn) -> tuple[int, int, int, int]:
    x = sorted(draw(st.lists(st.integers(0, SIZE), min_size=2, max_size=2, unique=True)))
    y = sorted(draw(st.lists(st.integers(0, SIZE), min_size=2, max_size=2, unique=True)))
    return x[0], y[0], x[1], y[1]


@settings(deadline=None)
@given(rectangles(), st.lists(rectangles(), max_size=4))
def test_what_is_seen_is_what_a_drawing_shows(
    box: tuple[int, int, int, int], covers: list[tuple[int, int, int, int]]
) -> None:
    drawing = np.zeros((SIZE, SIZE), bool)
    drawing[box[1] : box[3], box[0] : box[2]] = True
    for left, top, right, bottom in covers:
        drawing[top:bottom, left:right] = False
    hulls, areas = seen_of(np.array([box], np.float64), uncovered(WINDOW, covers))
    assert areas.tolist() == [drawing.sum()]
    if drawing.any():
        rows, columns = np.flatnonzero(drawing.any(axis=1)), np.flatnonzero(drawing.any(axis=0))
        assert hulls.tolist() == [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]]
    else:
        assert hulls.tolist() == [[0, 0, 0, 0]]


def layer_of(*boxes: tuple[float, float, float, float], opacity: float = 1.0) -> Layer:
    """A picture that fills the output, its boxes in pixels of half the size."""
    labels = np.arange(len(boxes))
    array = np.array(boxes, np.float64).reshape(-1, 4)
    picture = Picture(np.zeros((12, 12, 3), np.uint8), array, labels, (12, 12))
    view = View((SIZE, SIZE), scaling(2, 2), array, labels)
    return Layer(picture, view, WINDOW, opacity=opacity)


@pytest.mark.parametrize(("min_visible", "kept"), [(0.0, [0, 1, 2]), (0.3, [0, 1]), (0.6, [0])])
def test_boxes_that_show_too_little_are_dropped(min_visible: float, kept: list[int]) -> None:
    # of 100, 100 and 80 square pixels of the output 100, 50 and 20 are left
    layer = layer_of((0, 0, 5, 5), (0, 6, 5, 11), (7, 0, 9, 10))
    patches = [
        Patch((0, 17, 24, 24), NOTHING, (SIZE, SIZE)),
        Patch((12, 0, 24, 15), NOTHING, (SIZE, SIZE)),
        Patch((14, 15, 15, 16), NOTHING, (SIZE, SIZE)),
    ]
    boxes, labels = visible_boxes(
        [layer, *patches], [layer.view.matrix], min_side=1, min_visible=min_visible
    )
    assert labels.tolist() == kept
    everything = [[0, 0, 10, 10], [0, 12, 10, 17], [14, 15, 18, 17]]
    assert boxes.tolist() == [everything[label] for label in kept]


def test_a_blended_picture_hides_nothing() -> None:
    first, second = layer_of((0, 0, 5, 5)), layer_of((1, 1, 4, 4), opacity=0.5)
    matrices = [first.view.matrix, second.view.matrix]
    boxes, _ = visible_boxes([first, second], matrices, min_side=1, min_visible=1)
    assert boxes.tolist() == [[0, 0, 10, 10], [2, 2, 8, 8]]


def test_a_box_without_an_area_is_none() -> None:
    layer = layer_of((0, 0, 5, 0), (-5, 0, -1, 4), (1, 1, 2, 2))
    _, labels = visible_boxes([layer], [layer.view.matrix], min_side=0, min_visible=0)
    assert labels.tolist() == [2]
