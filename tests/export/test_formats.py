"""The table of formats: what each holds, refusals before any work, files that belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flyweight.cli.export import FORMATS as NAMED
from flyweight.core.errors import InputError
from flyweight.export.export import export
from flyweight.export.formats import FORMATS, PRECISIONS, chosen_format
from flyweight.models.detectors import Detector
from flyweight.runtime.load import EXPORTED_SUFFIXES, load_predictor

# What must be there to write a format.
NEEDS = {
    "onnx": "onnx",
    "openvino": "openvino",
    "litert": "litert_torch",
    "ncnn": "pnnx",
}


def test_the_command_line_names_every_format() -> None:
    assert tuple(FORMATS) == NAMED
    for each in FORMATS.values():
        assert Path(f"x{each.suffix}").suffix in EXPORTED_SUFFIXES
        assert "fp32" in each.precisions
        assert set(each.precisions) <= set(PRECISIONS)


@pytest.mark.parametrize("name", NEEDS)
def test_each_runtime_opens_what_was_written(detector: Detector, name: str, tmp_path: Path) -> None:
    """Names of two formats in one folder do not meet, and the runtime says what torch says."""
    pytest.importorskip(NEEDS[name], reason=f"nothing here writes {name}")
    if name == "litert":
        pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    made = export(detector, ["onnx", name], tmp_path, name="small")[-1]
    assert made.path.parent == tmp_path
    wanted = {"small.onnx", f"small{FORMATS[name].suffix}"}
    companions = {made.path.with_suffix(suffix).name for suffix in FORMATS[name].companions}
    assert {path.name for path in tmp_path.iterdir()} == wanted | companions
    rng = np.random.default_rng(0)
    height, width = detector.preprocessing.size_hw
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = load_predictor(made.path).predict(image, score=0.0)
    expected = detector.predict(image, score=0.0)
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("ncnn", {"nms": True}, "NMS in the graph"),
        ("ncnn", {"dynamic_batch": True}, "a free number of images"),
        ("ncnn", {"precision": "bf16"}, "weights in bf16"),
        ("litert", {"nms": True}, "NMS in the graph"),
        ("litert", {"precision": "bf16"}, "weights in bf16"),
        ("web", {"dynamic_batch": True}, "a free number of images"),
    ],
)
def test_what_a_format_cannot_hold(
    detector: Detector,
    name: str,
    options: dict[str, object],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Refused before anything is converted, though another format could."""
    monkeypatch.setattr("flyweight.export.export.to_onnx", None)
    with pytest.raises(InputError, match=f"{name} files do not hold {says}"):
        export(detector, ["onnx", name], tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_no_such_format() -> None:
    with pytest.raises(InputError, match="unknown format 'coreml'"):
        chosen_format("coreml")


def test_an_older_page_is_replaced_and_other_folders_are_not(
    detector: Detector, tmp_path: Path
) -> None:
    from flyweight.web_page.onnxruntime_web import find_onnxruntime_web

    if find_onnxruntime_web() is None:
        pytest.skip("onnxruntime-web is not on this machine")
    for _ in range(2):
        made = export(detector, ["web"], tmp_path, name="small")[0]
    assert made.path == tmp_path / "small-web"
    assert (made.path / "index.html").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["small-web"]
    (tmp_path / "other-web").mkdir()
    (tmp_path / "other-web" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError):
        export(detector, ["web"], tmp_path, name="other")
    assert (tmp_path / "other-web" / "thesis.txt").read_text() == "years of work"
