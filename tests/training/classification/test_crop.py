"""A region becomes an input: against pixels cut by hand and OpenCV's resize."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyweight.core.image import write_image
from flyweight.core.preprocessing import Preprocessing
from flyweight.training.classification.crop import (
    ColourJitter,
    RegionCrop,
    training_crop,
    whole_crop,
)

INPUT = Preprocessing(size_hw=(32, 32))
LABEL = np.array([2])


def test_the_whole_region_is_what_opencv_resizes() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (90, 120, 3)).astype(np.uint8)
    region = np.array([[30, 20, 80, 70]], np.float32)
    found, _, labels = whole_crop(INPUT)(picture, region, LABEL, size_hw=(90, 120), rng=rng)
    assert labels.tolist() == [2]
    assert np.array_equal(found, cv2.resize(picture[20:70, 30:80], (32, 32)))


def test_a_large_jpeg_is_read_small_and_shows_the_same_region(tmp_path: Path) -> None:
    """Red rises with x and green with y over the picture, so a pixel says where it is from."""
    height, width = 800, 1200
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 255, width)[None]
    picture[..., 1] = np.linspace(0, 255, height)[:, None]
    write_image(tmp_path / "large.jpg", picture)
    region = np.array([[300, 200, 900, 700]], np.float32)
    rng = np.random.default_rng(0)
    found, _, _ = whole_crop(INPUT)(
        tmp_path / "large.jpg", region, LABEL, size_hw=(height, width), rng=rng
    )
    step_x, step_y = 600 / 32, 500 / 32
    expected_x = (300 + step_x * (np.arange(32) + 0.5)) * 255 / width
    expected_y = (200 + step_y * (np.arange(32) + 0.5)) * 255 / height
    np.testing.assert_allclose(found[..., 0].mean(axis=0), expected_x, atol=3)
    np.testing.assert_allclose(found[..., 1].mean(axis=1), expected_y, atol=3)


@settings(max_examples=50)
@given(
    left=st.floats(0, 50), top=st.floats(0, 50), width=st.floats(8, 200), height=st.floats(8, 200),
    seed=st.integers(0, 10_000),
)  # fmt: skip
def test_windows_lie_within_their_region_and_keep_to_their_ranges(
    left: float, top: float, width: float, height: float, seed: int
) -> None:
    window = RegionCrop(area_range=(0.35, 1.0), aspect_range=(3 / 4, 4 / 3))
    region = (left, top, left + width, top + height)
    x1, y1, x2, y2 = window.sample(region, np.random.default_rng(seed))
    assert round(left) <= x1 < x2 <= round(left + width)
    assert round(top) <= y1 < y2 <= round(top + height)
    # an edge is moved by half a pixel at most; where the region is narrower than the aspect
    # asks for, the window is as wide as it, and its area is less by up to 4 / 3
    most, least = ((x2 - x1 + s) * (y2 - y1 + s) / (width * height) for s in (1, -1))
    assert most >= 0.35 * 3 / 4
    assert least <= 1
    assert (x2 - x1 + 1) / width >= 3 / 4 * (y2 - y1 - 1) / height * 0.999


def test_training_crops_differ_and_follow_from_the_generator() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (60, 60, 3)).astype(np.uint8)
    region = np.array([[5, 5, 55, 55]], np.float32)
    crop = training_crop(INPUT, min_area=0.35)

    def draw(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        image, _, labels = crop(picture, region, LABEL, size_hw=(60, 60), rng=rng)
        assert labels.tolist() == [2]
        return image

    assert draw(1).shape == (32, 32, 3)
    assert np.array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))


@pytest.mark.parametrize("seed", range(5))
def test_colour_stays_recognisable(seed: int) -> None:
    parameters = ColourJitter().draw(np.random.default_rng(seed))
    drawn = (parameters.brightness, parameters.contrast, parameters.saturation)
    assert all(value is not None and 0.7 <= value <= 1.3 for value in drawn)
    assert parameters.channels is None
    assert parameters.hue is None
