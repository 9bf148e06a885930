from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyweight.transforms.geometry import (
    RandomAffine,
    RandomExpand,
    RandomFlip,
    RandomJitter,
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


@given(st.integers(10, 400), st.integers(10, 400), st.integers(0, 2**32 - 1))
def test_jitter_moves_each_edge_by_its_share(height: int, width: int, seed: int) -> None:
    view = RandomJitter(0.3)(
        view_of((height, width), (0, 0, width, height)), np.random.default_rng(seed)
    )
    left, top, right, bottom = view.canvas_boxes()[0]
    # Nothing is scaled; the canvas ends at most 0.3 of a side beyond or before the picture.
    assert (right - left, bottom - top) == (width, height)
    assert max(abs(left), abs(view.size_hw[1] - right)) <= 0.3 * width
    assert max(abs(top), abs(view.size_hw[0] - bottom)) <= 0.3 * height
    assert view.size_hw[0] > 0.39 * height - 1
    assert view.size_hw[1] > 0.39 * width - 1


def test_jitter_crops_and_zooms_out() -> None:
    rng = np.random.default_rng(0)
    widths = [RandomJitter()(view_of((100, 100)), rng).size_hw[1] for _ in range(500)]
    assert min(widths) < 60
    assert max(widths) > 140
    assert abs(np.mean(widths) - 100) < 4
    with pytest.raises(ValueError, match=r"jitter is 0\.5"):
        RandomJitter(0.5)


def test_a_turn_is_opencvs() -> None:
    """OpenCV turns about pixel centres, the other way round."""
    rng = np.random.default_rng(3)
    view = RandomAffine(degrees=40, shear_degrees=0)(view_of((60, 80)), rng)
    (cosine, sine), _ = view.matrix[:2, :2]
    degrees = np.degrees(np.arctan2(-sine, cosine))
    expected = cv2.getRotationMatrix2D((40.0, 30.0), -degrees, 1.0)
    np.testing.assert_allclose(view.matrix[:2], expected, atol=1e-9)
    assert view.size_hw == (60, 80)


def test_affine_keeps_the_middle_and_its_ranges() -> None:
    rng = np.random.default_rng(0)
    step = RandomAffine(degrees=0, shear_degrees=10, scale_range=(0.5, 2.0), p=0.75)
    same, shears = 0, []
    for _ in range(400):
        view = step(view_of((60, 80)), rng)
        np.testing.assert_allclose(view.matrix @ [40, 30, 1], [40, 30, 1], atol=1e-9)
        scale = view.matrix[0, 0]
        same += bool((view.matrix == np.eye(3)).all())
        assert 0.5 <= scale <= 2
        assert view.matrix[1, 1] == pytest.approx(scale)
        shears.append(np.degrees(np.arctan(view.matrix[[0, 1], [1, 0]] / scale)))
    assert 70 < same < 130
    assert 9 < np.max(shears) <= 10
    assert -10 <= np.min(shears) < -9
