"""The golden vectors: the Python predictor finds what is written there, in every runtime."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from flyweight.core.image import read_image
from flyweight.core.preprocessing import resize_image
from flyweight.runtime.load import load_predictor
from flyweight.runtime.predictor import Predictor

GOLDEN = Path(__file__).parents[2] / "examples" / "golden"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))
MODEL = GOLDEN / "shapes.onnx"
PICTURES = [pytest.param(picture, id=picture["file"]) for picture in EXPECTED["pictures"]]


def _check() -> ModuleType:
    """`examples/golden/check.py`, which is a script and no part of a package."""
    spec = importlib.util.spec_from_file_location("check", GOLDEN / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def predictor(request: pytest.FixtureRequest) -> Predictor:
    """The golden detector in one of the runtimes that open .onnx."""
    pytest.importorskip(request.param)
    return load_predictor(MODEL, threads=1, runtime=request.param)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize(
    ("model", "runtime"),
    [
        ("shapes.onnx", "onnxruntime"),
        ("shapes.onnx", "openvino"),
        ("shapes-fp16.ncnn.param", "ncnn"),
    ],
)
def test_the_predictor_finds_the_golden_boxes(
    model: str, runtime: str, picture: dict[str, Any]
) -> None:
    pytest.importorskip(runtime)
    predictor = load_predictor(GOLDEN / model, threads=1, runtime=runtime)
    found = predictor.predict(GOLDEN / picture["file"], score=EXPECTED["score"])
    tolerance = EXPECTED["models"][model]
    assert not _check().compare(
        found.to_list(predictor.class_names), picture["detections"], tolerance
    )


@pytest.mark.parametrize("picture", PICTURES)
def test_the_network_gives_the_golden_outputs(
    predictor: Predictor, picture: dict[str, Any]
) -> None:
    name = Path(picture["file"]).stem
    with np.load(GOLDEN / "dense.npz") as dense:
        pixels, *expected = (dense[f"{name}_{part}"] for part in ("input", "boxes", "scores"))
    boxes, scores = predictor.session.run(pixels[None])
    np.testing.assert_allclose(boxes[0], expected[0], atol=0.02)
    np.testing.assert_allclose(scores[0], expected[1], atol=5e-4)


@pytest.mark.parametrize("picture", PICTURES)
def test_pictures_become_the_golden_inputs(picture: dict[str, Any]) -> None:
    predictor = load_predictor(MODEL, threads=1)
    image = read_image(GOLDEN / picture["file"])
    assert list(image.shape[:2]) == picture["size_hw"]
    pixels, _ = predictor.preprocessing.apply(image)
    name = Path(picture["file"]).stem
    assert not _check().compare_input(pixels.ravel(), name, EXPECTED)


def test_the_pictures_need_each_kind_of_resize() -> None:
    """As they are, bilinear and by area: an example that does one wrongly cannot pass."""
    size_hw = load_predictor(MODEL, threads=1).preprocessing.size_hw
    shrinks = [max(np.divide(each["size_hw"], size_hw)) for each in EXPECTED["pictures"]]
    assert [shrink == 1 for shrink in shrinks] == [True, False, False]
    assert [shrink > 2.01 for shrink in shrinks] == [False, False, True]
    for picture in EXPECTED["pictures"]:
        image = read_image(GOLDEN / picture["file"])
        assert resize_image(image, size_hw).shape[:2] == size_hw


def test_the_golden_pictures_show_every_class() -> None:
    for picture in EXPECTED["pictures"]:
        labels = {each["label"] for each in picture["detections"]}
        assert labels == set(EXPECTED["class_names"])


def test_the_files_stay_small() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.iterdir() if path.is_file()) < 600_000


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"score": 0.002}, "score differs"),
        ({"box_xyxy": [0.06, 0, 0, 0]}, "box_xyxy differs"),
    ],
)
def test_the_check_sees_what_differs(change: dict[str, Any], fault: str) -> None:
    expected = EXPECTED["pictures"][0]["detections"]
    tolerance = EXPECTED["models"][MODEL.name]
    moved = [dict(each) for each in expected]
    for key, difference in change.items():
        moved[0][key] = (np.asarray(moved[0][key]) + difference).tolist()
    (said,) = _check().compare(moved, expected, tolerance)
    assert said.startswith(fault)
    assert _check().compare(moved[1:], expected, tolerance)[0].startswith("found")
