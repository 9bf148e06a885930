from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from flyweight.core.image import read_image
from flyweight.core.preprocessing import resize_image
from flyweight.transforms.geometry import mirroring, scaling, translation
from flyweight.transforms.sampling import place, supersample, warp

WINDOW = (0, 0, 64, 48)


def bilinear(image: np.ndarray, matrix: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """`[h, w, 3]` float64: bilinear sampling by the definition, pixel centres at halves."""
    inverse = np.linalg.inv(matrix)
    x = inverse[0, 0] * (np.arange(size_hw[1]) + 0.5) + inverse[0, 2] - 0.5
    y = inverse[1, 1] * (np.arange(size_hw[0]) + 0.5) + inverse[1, 2] - 0.5
    rows = interpolate_rows(image.astype(np.float64), y)
    return interpolate_rows(rows.transpose(1, 0, 2), x).transpose(1, 0, 2)


def interpolate_rows(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    places = np.clip(places, 0, len(values) - 1)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, len(values) - 1)
    share = (places - low)[:, None, None]
    return values[low] * (1 - share) + values[high] * share


MATRICES = st.builds(
    lambda sx, sy, x, y, flip: (
        (mirroring(WINDOW[2]) if flip else np.eye(3)) @ translation(x, y) @ scaling(sx, sy)
    ),
    st.floats(0.51, 4),
    st.floats(0.51, 4),
    st.floats(-60, 60),
    st.floats(-40, 40),
    st.booleans(),
)


@settings(deadline=None)
@given(MATRICES, st.integers(8, 90), st.integers(8, 90), st.integers(0, 1000))
def test_pixels_are_those_of_a_warp(matrix: np.ndarray, height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    placement = place(matrix, (height, width), WINDOW)
    assume(placement is not None)
    assert placement is not None
    left, top, right, bottom = placement.source_xyxy
    x, y, x_end, y_end = placement.target_xyxy
    # Beyond a factor of two core averages over areas instead, on purpose.
    assume(right - left <= 2 * (x_end - x))
    assume(bottom - top <= 2 * (y_end - y))
    part = placement.sample(image)
    cropped = placement.matrix @ translation(left, top)
    exact = bilinear(image[top:bottom, left:right], translation(-x, -y) @ cropped, part.shape[:2])
    assert np.abs(part - exact).max() <= 1.01
    # OpenCV's own warp takes coordinates of pixel centres, hence the shifts by a half.
    centred = translation(-0.5 - x, -0.5 - y) @ cropped @ translation(0.5, 0.5)
    warped = cv2.warpAffine(
        image[top:bottom, left:right],
        centred[:2],
        (part.shape[1], part.shape[0]),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    # It rounds coordinates to 1/32 of a pixel on each axis.
    assert np.abs(part.astype(int) - warped).max() <= 255 / 32 + 2


@settings(deadline=None)
@given(MATRICES, st.integers(1, 90), st.integers(1, 90))
def test_edges_move_by_half_a_pixel_at_most(matrix: np.ndarray, height: int, width: int) -> None:
    placement = place(matrix, (height, width), WINDOW)
    assume(placement is not None)
    assert placement is not None
    left, top, right, bottom = placement.source_xyxy
    x, y, x_end, y_end = placement.target_xyxy
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert WINDOW[0] <= x < x_end <= WINDOW[2]
    assert WINDOW[1] <= y < y_end <= WINDOW[3]
    corners = np.array([[left, top, 1], [right, bottom, 1]], dtype=np.float64).T
    moved = np.sort((placement.matrix @ corners)[:2].T, axis=0)
    np.testing.assert_allclose(moved, [[x, y], [x_end, y_end]], atol=1e-9)
    # Of a whole pixel where nothing less is left to see, else of half a pixel on either side.
    wanted = np.sort((matrix @ corners)[:2].T, axis=0)
    room = 0.5 + 0.5 * np.abs(np.diag(matrix)[:2])
    room = np.where((right - left == 1) | (bottom - top == 1), 2 * room, room)
    room = np.where((x_end - x == 1) | (y_end - y == 1), 2 * room, room)
    assert (np.abs(moved - wanted) <= room + 1e-9).all()


def test_a_picture_outside_of_the_window_is_nowhere() -> None:
    assert place(translation(100, 0), (10, 10), WINDOW) is None
    assert place(translation(0, -10), (10, 10), WINDOW) is None


def test_a_rotation_is_refused() -> None:
    turned = np.array([[0.9, -0.1, 0], [0.1, 0.9, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match="rotation"):
        place(turned, (10, 10), WINDOW)


@pytest.mark.parametrize("flip", [False, True])
def test_flip_and_whole_pixel_crop_are_exact(flip: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    matrix = translation(-7, -5)
    part = image[5:53, 7:71]
    if flip:
        matrix, part = mirroring(64) @ matrix, part[:, ::-1]
    placement = place(matrix, (60, 80), WINDOW)
    assert placement is not None
    sampled = placement.sample(image)
    np.testing.assert_array_equal(sampled, part)
    assert not np.may_share_memory(sampled, image)


@pytest.mark.parametrize("shrinks", [(2.3, 2.3), (3.1, 1.4), (1.0, 3.7), (3.9, 2.0)])
def test_supersampling_is_as_close_to_pillow_as_averaging_over_areas(
    shrinks: tuple[float, float], bccd_dir: Path
) -> None:
    """Pillow's bilinear filter, which torchvision's antialiased resize is, too, widens as the
    picture shrinks."""
    image = read_image(sorted((bccd_dir / "JPEGImages").glob("*.jpg"))[0])
    size_hw = (round(image.shape[0] / shrinks[0]), round(image.shape[1] / shrinks[1]))
    antialiased = PillowImage.fromarray(image).resize(
        size_hw[::-1], PillowImage.Resampling.BILINEAR
    )

    def distance(resized: np.ndarray) -> float:
        return float(np.sqrt(np.square(resized - np.asarray(antialiased, np.float64)).mean()))

    plain = cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    supersampled = supersample(image, size_hw)
    assert supersampled.shape == (*size_hw, 3)
    assert distance(supersampled) < 1.5 * distance(resize_image(image, size_hw))
    assert distance(supersampled) < distance(plain)


@pytest.mark.parametrize("shrink", [2.3, 2.7, 3.3, 3.9])
def test_supersampling_fades_stripes_too_fine_for_the_output(shrink: float) -> None:
    """Two pixels black, two white: bilinear sampling alone makes wide stripes of them."""
    image = np.zeros((20, 400, 3), np.uint8)
    image[:, ::4] = image[:, 1::4] = 254
    size_hw = (20, round(400 / shrink))
    plain = cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    assert supersample(image, size_hw).std() < 0.75 * plain.std()


@pytest.mark.parametrize("size_hw", [(60, 80), (30, 40), (14, 20), (90, 100)])
def test_supersampling_leaves_the_rest_as_it_is(size_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    np.testing.assert_array_equal(supersample(image, size_hw), resize_image(image, size_hw))


TURNED = st.builds(
    lambda angle, shear, scale, x, y: (
        translation(x, y)
        @ np.array(
            [
                [scale * np.cos(angle), scale * (shear - np.sin(angle)), 0],
                [scale * np.sin(angle), scale * np.cos(angle), 0],
                [0, 0, 1],
            ]
        )
    ),
    st.floats(-0.6, 0.6),
    st.floats(-0.2, 0.2),
    st.floats(0.6, 3),
    st.floats(-40, 40),
    st.floats(-30, 30),
)


@settings(deadline=None, max_examples=50)
@given(TURNED, st.integers(8, 60), st.integers(8, 60))
def test_a_warp_moves_a_gradient_by_its_matrix(matrix: np.ndarray, height: int, width: int) -> None:
    """A picture whose levels are its coordinates shows where each pixel came from."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    image = np.stack([rows * 4, columns * 4, np.zeros_like(rows)], axis=2).astype(np.uint8)
    found = warp(matrix, (height, width), WINDOW)
    assume(found is not None)
    assert found is not None
    left, top, right, bottom = found.target_xyxy
    part, inside = found.sample(image), found.mask((height, width)) > 0
    assert part.shape == (bottom - top, right - left, 3)
    y, x = np.mgrid[top:bottom, left:right] + 0.5
    source = np.einsum("ij,jhw->ihw", np.linalg.inv(matrix), np.stack([x, y, np.ones_like(x)]))
    deep = (source[0] > 1) & (source[0] < width - 1) & (source[1] > 1) & (source[1] < height - 1)
    assert inside[deep].all()
    # Coordinates are rounded to 1/32 of a pixel; levels to whole ones, twice.
    np.testing.assert_allclose(part[deep][:, 1], source[0][deep] * 4, atol=2.2)
    np.testing.assert_allclose(part[deep][:, 0], source[1][deep] * 4, atol=2.2)
    outside = (source[0] < -1) | (source[0] > width + 1) | (source[1] < -1)
    assert not inside[outside | (source[1] > height + 1)].any()


def test_a_warp_that_shrinks_averages() -> None:
    """Black and white columns in turn, at a quarter of the size: grey, not one of the two."""
    image = np.zeros((80, 80, 3), np.uint8)
    image[:, ::2] = 254
    turn = np.array([[0.25, -0.02, 5], [0.02, 0.25, 5], [0, 0, 1]])
    found = warp(turn, (80, 80), WINDOW)
    assert found is not None
    middle = found.sample(image)[4:-4, 4:-4]
    assert np.abs(middle.astype(int) - 127).max() < 12


def test_a_warp_outside_of_the_window_is_none() -> None:
    turn = np.array([[1, -0.1, 200], [0.1, 1, 0], [0, 0, 1]])
    assert warp(turn, (10, 10), WINDOW) is None
