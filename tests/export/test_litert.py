from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from torch import nn

from flyweight.core.errors import InputError
from flyweight.core.image import write_image
from flyweight.core.preprocessing import Preprocessing
from flyweight.data.records import DetectionDataset, Record
from flyweight.export.int8 import Calibration
from flyweight.export.onnx import export_manifest, to_onnx
from flyweight.export.parity import LIMITS, Dense, compare, reference_outputs, sample_inputs
from flyweight.models.detectors import Detector, build

pytest.importorskip("ai_edge_quantizer", reason="the quantiser of LiteRT is not installed")
if importlib.util.find_spec("litert_torch") is None:
    pytest.skip("litert-torch is not installed", allow_module_level=True)

from ai_edge_litert.interpreter import Interpreter

from flyweight.export import litert
from flyweight.export.litert import save_litert, to_litert
from flyweight.runtime.litert_session import LiteRtSession


@dataclass(frozen=True)
class Converted:
    """A detector, what LiteRT's converter made of it, and what it says itself."""

    detector: Detector
    model: bytes
    graph: onnx.ModelProto
    inputs: list[np.ndarray]
    references: list[Dense]


@pytest.fixture(scope="module")
def converted(detector: Detector) -> Converted:
    """Once for all tests: a conversion takes seconds. One norm of the backbone is a GroupNorm."""
    changed = copy.deepcopy(detector)
    network: Any = changed.model
    block = next(iter(network.backbone.children()))
    name = next(name for name, each in block.named_children() if isinstance(each, nn.BatchNorm2d))
    setattr(block, name, nn.GroupNorm(2, 8))
    inputs = sample_inputs(changed.preprocessing.size_hw)
    return Converted(
        changed, to_litert(changed), to_onnx(changed), inputs, reference_outputs(changed, inputs)
    )


@pytest.fixture
def write(converted: Converted, tmp_path: Path) -> Callable[..., Path]:
    """`write("fp16")` gives the path of a file."""

    def save(precision: str, **options: Any) -> Path:
        path = tmp_path / f"{precision}.tflite"
        manifest = export_manifest(converted.detector, format="litert", precision=precision)
        save_litert(converted.model, path, manifest=manifest, precision=precision, **options)
        return path

    return save


@pytest.fixture
def calibration(converted: Converted, pictures: list[np.ndarray], tmp_path: Path) -> Calibration:
    records = []
    for index, image in enumerate(pictures):
        path = tmp_path / f"{index}.png"
        write_image(path, image)
        records.append(
            Record(
                image_id=index,
                path=path,
                size_hw=(128, 160),
                boxes_xyxy=np.zeros((0, 4), np.float32),
                labels=np.zeros(0, np.int64),
                crowd=np.zeros(0, bool),
                difficult=np.zeros(0, bool),
            )
        )
    data = DetectionDataset(tuple(records), ("a", "b"), tmp_path, "train", "coco")
    size_hw = converted.detector.preprocessing.size_hw
    return Calibration(
        converted.graph, data, preprocessing=Preprocessing(size_hw=size_hw), say=lambda _: None
    )


def parity(path: Path, converted: Converted) -> tuple[float, float]:
    session = LiteRtSession(path, threads=1)
    assert session.manifest.class_names == ("a", "b")
    found = compare(converted.references, session, converted.inputs)
    return found.max_box_error, found.max_score_error


def weights(path: Path) -> dict[str, np.dtype[Any]]:
    """The type of each convolution's weights, by the runtime's own account."""
    opened = Interpreter(str(path))
    tensors = {each["index"]: each for each in opened.get_tensor_details()}
    made_by = {
        int(index): operator
        for operator in opened._get_ops_details()
        for index in operator["outputs"]
        if operator["op_name"] == "DEQUANTIZE"
    }
    found = {}
    for operator in opened._get_ops_details():
        if operator["op_name"] not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            continue
        index = int(operator["inputs"][1])
        if index in made_by:
            index = int(made_by[index]["inputs"][0])
        found[tensors[int(operator["outputs"][0])]["name"]] = np.dtype(tensors[index]["dtype"])
    return found


def test_fp32_equals_the_detector(converted: Converted, write: Callable[..., Path]) -> None:
    path = write("fp32")
    box_error, score_error = parity(path, converted)
    assert 0 < box_error <= LIMITS["fp32"][0]
    assert 0 < score_error <= LIMITS["fp32"][1]
    signature = Interpreter(str(path)).get_signature_runner()
    boxes, scores = converted.references[0]
    assert {
        name: each["shape"].tolist() for name, each in signature.get_output_details().items()
    } == {
        "boxes": [1, *boxes.shape],
        "scores": [1, *scores.shape],
    }
    [(name, details)] = signature.get_input_details().items()
    assert (name, details["dtype"], details["shape"].tolist()) == (
        "images",
        np.uint8,
        [1, 64, 96, 3],
    )
    found = signature(images=converted.inputs[0][None])
    np.testing.assert_allclose(found["boxes"][0], boxes, atol=0.05)
    assert set(weights(path).values()) == {np.dtype(np.float32)}


@pytest.mark.parametrize(("precision", "kind"), [("fp16", np.float16), ("int8-weights", np.int8)])
def test_stored_weights(
    precision: str, kind: Any, converted: Converted, write: Callable[..., Path]
) -> None:
    path = write(precision)
    assert set(weights(path).values()) == {np.dtype(kind)}
    box_error, score_error = parity(path, converted)
    limits = LIMITS["fp16"] if precision == "fp16" else LIMITS["bf16"]
    assert 1e-4 < box_error <= limits[0]
    assert 1e-5 < score_error <= limits[1]


def test_int8_is_between_the_convolutions(
    converted: Converted, write: Callable[..., Path], calibration: Calibration
) -> None:
    path = write("int8", calibration=calibration)
    assert set(weights(path).values()) == {np.dtype(np.int8)}
    box_error, score_error = parity(path, converted)
    assert 1e-3 < box_error < 8
    assert 1e-4 < score_error < 0.1
    opened = Interpreter(str(path))
    types = {each["index"]: each["dtype"] for each in opened.get_tensor_details()}
    made = {
        kind: {
            types[int(each["outputs"][0])]
            for each in opened._get_ops_details()
            if each["op_name"] == kind
        }
        for kind in ("RSQRT", "EXP", "SOFTMAX", "HARD_SWISH", "MEAN")
    }
    # The statistics of GroupNorm and the decoding stay in float, squeeze-excite does not.
    assert made["RSQRT"] == made["EXP"] == made["SOFTMAX"] == {np.float32}
    assert made["HARD_SWISH"] == {np.int8}
    assert made["MEAN"] == {np.float32, np.int8}


@pytest.mark.parametrize("precision", ["int8", "int8-weights", "fp16"])
def test_convolutions_of_the_onnx_graph_stay_in_float(
    precision: str, write: Callable[..., Path], calibration: Calibration
) -> None:
    convolutions = [node for node in calibration.graph.graph.node if node.op_type == "Conv"]
    depthwise = next(
        node for node in convolutions if any(a.name == "group" and a.i > 1 for a in node.attribute)
    )
    kept = [depthwise.name, convolutions[-1].name]
    types = weights(write(precision, calibration=calibration, keep_float=kept))
    assert sorted(str(each) for each in types.values()).count("float32") == len(kept)
    assert len(types) == len(convolutions)
    assert types[next(name for name in types if ".1." in name)] == np.float32


def test_all_in_float_is_the_float_model(
    converted: Converted, write: Callable[..., Path], calibration: Calibration
) -> None:
    kept = [node.name for node in calibration.graph.graph.node if node.op_type == "Conv"]
    path = write("int8", calibration=calibration, keep_float=kept)
    assert parity(path, converted) == parity(write("fp32"), converted)


def test_what_the_format_does_not_hold(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no kernels"):
        write("bf16")
    with pytest.raises(InputError, match="pictures"):
        write("int8")
    assert list(tmp_path.iterdir()) == []
    two_stages = build("faster_rcnn", backbone="mobilenet_v2", classes=["a"], size=64, width=0.25)
    with pytest.raises(InputError, match="RoIAlign"):
        to_litert(two_stages)


def test_no_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    litert.check_converter()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match="make litert"):
        litert.check_converter()
    monkeypatch.setenv(litert.PYTHON_VARIABLE, "elsewhere")
    litert.check_converter()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (None, "no such interpreter"),
        (f'exec {sys.executable} -S "$@"', "litert-torch is not installed"),
        ("echo 'RuntimeError: Lowering not found: aten.qr' >&2; exit 1", "detector: .*aten.qr"),
        ("kill -SEGV $$", "detector: exit -11"),
        ("exit 0", "detector: exit 0"),
    ],
)
def test_a_converter_that_fails(
    script: str | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not there, without the package, at an operator it lacks, by a crash, or saying nothing."""
    python = tmp_path / "python"
    if script is not None:
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
    monkeypatch.setenv(litert.PYTHON_VARIABLE, str(python))
    with pytest.raises(InputError, match=told):
        litert.run_converter(tmp_path / "program.pt2", tmp_path / "model.tflite")


@pytest.mark.slow
def test_every_model_of_the_zoo_converts(
    zoo_name: str,
    small_detector: Callable[..., Detector],
    make_lively: Callable[[nn.Module], nn.Module],
    settle_norms: Callable[[Detector], None],
    tmp_path: Path,
) -> None:
    if zoo_name.startswith("faster_rcnn"):
        with pytest.raises(InputError, match="RoIAlign"):
            to_litert(small_detector(zoo_name))
        return
    detector = small_detector(zoo_name)
    make_lively(detector)
    settle_norms(detector)
    path = tmp_path / "model.tflite"
    save_litert(to_litert(detector), path, manifest=export_manifest(detector, format="litert"))
    inputs = sample_inputs(detector.preprocessing.size_hw)
    session = LiteRtSession(path, threads=1)
    found = compare(reference_outputs(detector, inputs), session, inputs)
    assert 0 < found.max_box_error <= LIMITS["fp32"][0]
    assert 0 < found.max_score_error <= LIMITS["fp32"][1]
