"""The page's preprocessing in Node, against OpenCV's pixels through the Python one."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flyweight.core.preprocessing import Preprocessing
from tests.web_page.node_detector import encoded, run_in_node

STRETCH = Preprocessing(size_hw=(48, 64))
LETTERBOX = replace(STRETCH, resize="letterbox")
SHORTEST = replace(STRETCH, resize="shortest_side", short_side=40, long_side=64)
MODES = (STRETCH, LETTERBOX, SHORTEST)
# (height, width): larger, smaller, halves exactly, by area, whole factors, one side grows
SIZES = (
    (60, 80), (37, 51), (96, 128), (211, 333), (192, 256), (100, 20), (20, 300), (1, 1), (48, 64),
    (81, 107), (75, 100), (504, 378),
)  # fmt: skip


def picture(size_hw: tuple[int, int], channels: int) -> np.ndarray:
    """Noise, where every pixel is another."""
    rng = np.random.default_rng(size_hw)
    return rng.integers(0, 256, (*size_hw, channels), dtype=np.uint8)


def job(preprocessing: Preprocessing, image: np.ndarray) -> dict[str, Any]:
    height, width = image.shape[:2]
    return {
        "task": "preprocess", "preprocessing": preprocessing.to_dict(),
        "pixels": encoded(image), "width": width, "height": height,
    }  # fmt: skip


def test_pixels_are_those_of_opencv() -> None:
    cases = [(mode, picture(size, 4)) for mode in MODES for size in SIZES]
    answers = run_in_node([job(mode, image) for mode, image in cases])
    for (mode, image), answer in zip(cases, answers, strict=True):
        expected, matrix = mode.apply(np.ascontiguousarray(image[..., :3]))
        value = answer["value"]
        made = np.frombuffer(base64.b64decode(value["pixels"]), np.uint8).reshape(expected.shape)
        what = f"{mode.resize} of {image.shape}"
        apart = np.abs(made.astype(int) - expected)
        # None differs from OpenCV 4.14 on x86; another build of it may round otherwise.
        assert apart.max() <= 1, what
        assert (apart > 0).mean() < 0.001, what
        place = value["placement"]
        found = [[place["scaleX"], 0, place["left"]], [0, place["scaleY"], place["top"]]]
        np.testing.assert_allclose(found, matrix, rtol=1e-12, err_msg=what)


def test_three_and_four_channels_are_the_same() -> None:
    image = picture((70, 90), 4)
    both = run_in_node([job(LETTERBOX, image), job(LETTERBOX, image[..., :3])])
    assert both[0] == both[1]


def test_content_is_rounded_as_in_python() -> None:
    """Halves go to the even side: at these sizes that is decided by one pixel."""
    sizes = [(side, other) for side in range(1, 300, 7) for other in (1, 32, 85, 128, 999)]
    cases = [(mode, size) for mode in MODES for size in sizes]
    jobs = [{"task": "place", "preprocessing": m.to_dict(), "size_hw": s} for m, s in cases]
    for (mode, size), answer in zip(cases, run_in_node(jobs), strict=True):
        assert tuple(answer["value"]["content"]) == mode.content_size_hw(size), (mode, size)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.resize)
def test_boxes_come_back(mode: Preprocessing) -> None:
    size_hw = (57, 201)
    boxes = np.random.default_rng(0).uniform(-20, 90, (50, 4)).astype(np.float32)
    matrix = mode.matrix(size_hw)
    place = {
        "scaleX": matrix[0, 0],
        "scaleY": matrix[1, 1],
        "left": matrix[0, 2],
        "top": matrix[1, 2],
    }
    jobs = [{"task": "invert", "boxes": encoded(boxes), "placement": place, "size_hw": size_hw}]
    found = np.array(run_in_node(jobs)[0]["value"]).reshape(-1, 4)
    np.testing.assert_allclose(
        found, mode.invert_boxes(boxes, matrix, size_hw), rtol=1e-6, atol=1e-5
    )


def test_a_canvas_without_a_size_is_refused() -> None:
    free = replace(SHORTEST, canvas="batch")
    (answer,) = run_in_node([job(free, picture((9, 9), 3))])
    assert "no fixed size" in answer["error"]
