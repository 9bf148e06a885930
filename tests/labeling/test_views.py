from __future__ import annotations

import numpy as np
import pytest

from flyweight.core.detections import Detections
from flyweight.core.errors import InputError
from flyweight.labeling.views import View, make_views, mirror
from tests.labeling.plain_detections import detections_of

SIZE_HW = (60, 100)


def picture(box: tuple[int, int, int, int]) -> np.ndarray:
    """Black, white within `box` (whole pixels)."""
    image = np.zeros((*SIZE_HW, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


def look(image: np.ndarray) -> Detections:
    """A perfect detector: the hull of the white pixels."""
    rows, columns = np.nonzero(image[..., 0] == 255)
    if not len(rows):
        return Detections.empty()
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return detections_of([box], [0.9], [2])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale", [0.25, 0.7, 1.0, 1.3, 2.0, 3.7])
@pytest.mark.parametrize("box", [(40, 20, 52, 29), (0, 0, 11, 7), (88, 51, 100, 60)])
def test_boxes_come_back(scale: float, flip: bool, box: tuple[int, int, int, int]) -> None:
    """Whatever is shown, a box is found where the pixels are: exactly, these are whole pixels."""
    view = View(scale, flip)
    found = view.unite([look(window) for window in view.show(picture(box))], SIZE_HW)
    np.testing.assert_array_equal(found.boxes_xyxy, [box])
    np.testing.assert_array_equal(found.labels, [2])


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.5, 2.0, 4.0])
def test_windows_show_every_pixel_and_have_the_scale(scale: float) -> None:
    image = np.arange(60 * 100 * 3, dtype=np.int64).astype(np.uint8).reshape(60, 100, 3)
    seen = np.zeros(SIZE_HW, bool)
    view = View(scale)
    for (left, top, right, bottom), shown in zip(
        view.windows(SIZE_HW), view.show(image), strict=True
    ):
        assert shown.shape == (bottom - top, right - left, 3)
        assert (right - left) == pytest.approx(100 / scale, abs=0.5)
        x, y = max(left, 0), max(top, 0)
        part = image[y : max(bottom, 0), x : max(right, 0)]
        np.testing.assert_array_equal(
            shown[y - top : y - top + len(part), x - left : x - left + part.shape[1]], part
        )
        seen[y:bottom, x:right] = True
    assert seen.all()


def test_what_a_window_cuts_is_another_windows() -> None:
    """An object of half a window's width lies whole in some window wherever it is."""
    view = View(2.0)
    for left in range(0, 76):
        box = (left, 10, left + 24, 22)
        found = view.unite([look(window) for window in view.show(picture(box))], SIZE_HW)
        np.testing.assert_array_equal(found.boxes_xyxy, [box])


def test_the_border_around_the_picture_is_grey() -> None:
    [shown] = View(0.5).show(picture((0, 0, 100, 60)))
    assert shown.shape == (120, 200, 3)
    assert (shown[:30] == 114).all()
    assert (shown[30:90, 50:150] == 255).all()


def test_mirror_is_its_own_inverse() -> None:
    boxes = np.random.default_rng(0).uniform(0, 50, (7, 4)).astype(np.float32)
    np.testing.assert_allclose(mirror(mirror(boxes, 50), 50), boxes, atol=1e-5)
    np.testing.assert_array_equal(mirror(np.array([[1, 2, 4, 5]], np.float32), 10), [[6, 2, 9, 5]])


def test_all_views() -> None:
    assert [view.name for view in make_views([1, 0.75], flip=True)] == [
        "1",
        "1 flipped",
        "0.75",
        "0.75 flipped",
    ]
    assert len(make_views([1.5], flip=False)) == 1


@pytest.mark.parametrize("scales", [[], [1, 1], [0.1], [5]])
def test_bad_scales(scales: list[float]) -> None:
    with pytest.raises(InputError):
        make_views(scales, flip=True)
