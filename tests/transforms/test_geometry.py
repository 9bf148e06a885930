from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyweight.transforms.geometry import (
    RandomExpand,
    RandomFlip,
    View,
    mirroring,
    scaling,
    translation,
)


def view_of(size_hw: tuple[int, int], *boxes: tuple[float, float, float, float]) -> View:
    array = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return View.of_picture(size_hw, array, np.arange(len(array)))


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (translation(5, -2), (6, 0)),
        (scaling(3, 0.5), (3, 1)),
        (mirroring(10), (9, 2)),
    ],
)
def test_matrices_move_a_point(matrix: np.ndarray, expected: tuple[float, float]) -> None:
    assert tuple((matrix @ [1, 2, 1])[:2]) == expected


def test_then_applies_in_order() -> None:
    view = (
        view_of((20, 10), (1, 2, 3, 5))
        .then(translation(4, 0), (20, 14))
        .then(scaling(2, 2), (40, 28))
    )
    assert view.size_hw == (40, 28)
    np.testing.assert_allclose(view.canvas_boxes(), [[10, 4, 14, 10]])


def test_flip_mirrors_boxes_and_happens_half_of_the_time() -> None:
    view = view_of((20, 10), (1, 2, 3, 5))
    rng = np.random.default_rng(0)
    flipped = [RandomFlip()(view, rng).canvas_boxes()[0].tolist() for _ in range(400)]
    assert {tuple(box) for box in flipped} == {(1, 2, 3, 5), (7, 2, 9, 5)}
    assert 160 < flipped.count([7, 2, 9, 5]) < 240


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_expand_keeps_the_picture_whole_on_its_canvas(height: int, width: int, seed: int) -> None:
    view = RandomExpand(p=1)(
        view_of((height, width), (0, 0, width, height)), np.random.default_rng(seed)
    )
    (left, top, right, bottom) = view.canvas_boxes()[0]
    assert (right - left, bottom - top) == (width, height)
    assert 0 <= left <= right <= view.size_hw[1] <= 4 * width
    assert 0 <= top <= bottom <= view.size_hw[0] <= 4 * height
    assert view.fill == (123, 117, 104)
