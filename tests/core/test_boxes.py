from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from flyweight.core import boxes as core_boxes

coordinate = st.floats(-50, 500, allow_nan=False, width=32)


@st.composite
def random_boxes(draw: st.DrawFn) -> np.ndarray:
    count = draw(st.integers(0, 12))
    values = np.array(draw(st.lists(coordinate, min_size=4 * count, max_size=4 * count)))
    corners = values.reshape(count, 2, 2)
    return np.concatenate([corners.min(1), corners.max(1)], axis=1)


@given(random_boxes(), random_boxes())
def test_iou_equals_torchvision(a: np.ndarray, b: np.ndarray) -> None:
    expected = torchvision.ops.box_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(core_boxes.box_iou(a, b), np.nan_to_num(expected), atol=1e-9)


@given(random_boxes())
def test_conversions_round_trip(boxes: np.ndarray) -> None:
    np.testing.assert_allclose(
        core_boxes.xywh_to_xyxy(core_boxes.xyxy_to_xywh(boxes)), boxes, atol=1e-9
    )
    np.testing.assert_allclose(
        core_boxes.cxcywh_to_xyxy(core_boxes.xyxy_to_cxcywh(boxes)), boxes, atol=1e-9
    )
    np.testing.assert_allclose(
        core_boxes.xyxy_to_cxcywh(boxes),
        torchvision.ops.box_convert(torch.from_numpy(boxes), "xyxy", "cxcywh").numpy(),
        atol=1e-9,
    )


def test_whole_image_covers_its_pixels() -> None:
    whole = np.array([[0.0, 0, 10, 10]])
    assert core_boxes.box_area(whole)[0] == 100
    np.testing.assert_array_equal(
        core_boxes.clip_boxes(np.array([[-3.0, 2, 14, 30]]), (10, 12)), [[0, 2, 12, 10]]
    )


@given(random_boxes(), st.lists(st.floats(-3, 3, width=32), min_size=6, max_size=6))
def test_transformed_hull_holds_the_corners(boxes: np.ndarray, entries: list[float]) -> None:
    matrix = np.array(entries).reshape(2, 3)
    corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    expected = np.concatenate([moved.min(1), moved.max(1)], axis=1) if len(boxes) else boxes
    np.testing.assert_allclose(core_boxes.transform_boxes(boxes, matrix), expected, atol=1e-6)


@pytest.mark.parametrize("shear", [0.0, 1e-30])
def test_both_ways_to_transform_agree(shear: float) -> None:
    """Mirrored, upside down, inverted: without shear there is a shorter way."""
    boxes = np.array([[1.0, 2, 3, 5], [3, 5, 1, 2], [0, 0, 0, 0]])
    across = np.array([[-2, shear, 10], [0, 3, 1]])
    np.testing.assert_allclose(
        core_boxes.transform_boxes(boxes, across), [[4, 7, 8, 16], [8, 16, 4, 7], [10, 1, 10, 1]]
    )
    upside_down = np.array([[1, shear, 0], [0, -1, 0]])
    moved = core_boxes.transform_boxes(boxes[:1], upside_down)
    np.testing.assert_allclose(moved, [[1, -5, 3, -2]])
    assert core_boxes.transform_boxes(boxes.astype(np.float32), across).dtype == np.float32
