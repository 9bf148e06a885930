"""The page in a real browser: its boxes against the Python predictor's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from flyweight.core.boxes import box_iou
from flyweight.core.detections import Detections
from flyweight.core.image import read_image, write_image
from flyweight.runtime.load import load_predictor
from tests.web_page.browser_page import listed, saved, set_threshold, show

Page = Any
OpenPage = Callable[..., Page]
MakeSite = Callable[[Path], str]
RED, GREEN, BLUE = 0, 1, 2


def assert_same(found: Detections, expected: Detections, *, pixels: float, score: float) -> None:
    """The same labels in the same order, boxes and scores as near as that."""
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=pixels)
    np.testing.assert_allclose(found.scores, expected.scores, atol=score)


def assert_alike(found: Detections, expected: Detections, *, iou: float, score: float) -> None:
    """Boxes that are not near the threshold have one like them, both ways; all but a few, whose
    overlap is near that of NMS."""
    for some, others in ((found, expected), (expected, found)):
        certain = some.above(0.3 + score)
        overlap = box_iou(certain.boxes_xyxy, others.boxes_xyxy)
        overlap *= certain.labels[:, None] == others.labels
        near = np.abs(certain.scores[:, None] - others.scores) <= score
        assert ((overlap > iou) & near).any(axis=1).mean() >= 0.95


def test_boxes_one_can_check_by_eye(colour_page: Page, cells: np.ndarray, tmp_path: Path) -> None:
    page = colour_page
    path = tmp_path / "cells.png"
    write_image(path, cells)
    show(page, path)
    content, found = saved(page)
    assert found.labels.tolist() == [RED, BLUE, GREEN]
    np.testing.assert_allclose(found.scores, [1, 0.8, 0.4], atol=1e-4)
    np.testing.assert_allclose(
        found.boxes_xyxy, [[48, 24, 72, 48], [0, 72, 24, 96], [0, 0, 24, 24]], atol=0.01
    )
    assert (content["picture"], content["size_hw"]) == ("cells.png", [96, 96])
    assert listed(page) == ["red 1.00", "blue 0.80", "green 0.40"]
    assert page.locator("#summary").inner_text() == "1 × red, 1 × blue, 1 × green"

    set_threshold(page, 0.79)
    assert listed(page) == ["red 1.00", "blue 0.80"]
    set_threshold(page, 0.8)  # a score must be above it, as in Python
    assert listed(page) == ["red 1.00"]
    set_threshold(page, 0.3)
    page.get_by_text("blue", exact=True).last.click()
    assert listed(page) == ["red 1.00", "green 0.40"]
    page.get_by_role("button", name="None").click()
    assert "Nothing above" in page.locator("#summary").inner_text()

    # the picture that is saved has the boxes, and its own size
    page.get_by_role("button", name="All", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save picture").click()
    drawn = read_image(Path(download.value.path()))
    assert drawn.shape == cells.shape
    assert (drawn[60, 60] == 0).all()
    assert (drawn[36:40, 48:72] != cells[36:40, 48:72]).any()


@pytest.mark.parametrize("kind", ["noise", "bccd", "cards"])
def test_boxes_are_those_of_python(
    kind: str,
    anchor_page: Page,
    anchor_file: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    compare_with_python(anchor_page, anchor_file, pictures_of(kind, request), tmp_path)


@pytest.mark.slow
def test_boxes_of_an_exported_detector(
    open_page: OpenPage,
    make_site: MakeSite,
    detector_file: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    page = open_page(make_site(detector_file))
    compare_with_python(page, detector_file, pictures_of("bccd", request), tmp_path)


def pictures_of(kind: str, request: pytest.FixtureRequest) -> list[np.ndarray]:
    """A few, RGB uint8 `[H, W, 3]`."""
    if kind == "noise":
        coarse = np.random.default_rng(5).integers(0, 256, (11, 17, 3), dtype=np.uint8)
        return [coarse.repeat(20, axis=0).repeat(20, axis=1)]
    folder = request.getfixturevalue(f"{kind}_dir") / "JPEGImages"
    return [read_image(path) for path in sorted(folder.iterdir())[:3]]


def compare_with_python(page: Page, model: Path, pictures: list[np.ndarray], folder: Path) -> None:
    """From the same pixels (PNG) nearly the same numbers; a JPEG is decoded by another library."""
    predictor = load_predictor(model, threads=1)
    for number, pixels in enumerate(pictures):
        path = folder / f"{number}.png"
        write_image(path, pixels)
        show(page, path)
        expected = predictor.predict(pixels)
        assert len(expected)
        # the network's kernels differ in the last digits, the JSON is rounded to 0.01 pixel
        assert_same(saved(page)[1], expected, pixels=0.02, score=1e-4)
        write_image(path.with_suffix(".jpg"), pixels)
        show(page, path.with_suffix(".jpg"))
        loose = predictor.predict(path.with_suffix(".jpg"))
        assert_alike(saved(page)[1], loose, iou=0.9, score=0.05)


def test_a_photo_that_lies_on_its_side(
    colour_page: Page, colour_file: Path, cells: np.ndarray, tmp_path: Path
) -> None:
    """Boxes are in the pixels of the picture as it is shown, as in Python."""
    path = tmp_path / "turned.jpg"
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    PillowImage.fromarray(cells[:, :72]).save(path, quality=100, subsampling=0, exif=exif)
    show(colour_page, path)
    content, found = saved(colour_page)
    expected = load_predictor(colour_file).predict(path)
    assert content["size_hw"] == [72, 96]
    assert_same(found, expected, pixels=0.02, score=0.02)
