from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import flyweight.export.export as export_module
from flyweight.compression.mixed_precision import Choice
from flyweight.core.errors import CheckError, InputError
from flyweight.core.image import write_image
from flyweight.data.records import DetectionDataset, Record
from flyweight.export.export import export
from flyweight.export.nms_graph import add_nms
from flyweight.export.parity import MAX_BOX_ERROR, MAX_SCORE_ERROR
from flyweight.models.detectors import Detector, build
from flyweight.runtime.load import load_predictor
from flyweight.runtime.session import precision_of

FORMATS = ["onnx", "openvino"]


@pytest.fixture(autouse=True)
def one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are not what these tests are about."""
    monkeypatch.setattr(export_module, "SPEED_ROUNDS", 1)


@pytest.fixture
def dataset(pictures: list[np.ndarray], tmp_path: Path) -> DetectionDataset:
    records = []
    for index, image in enumerate(pictures):
        path = tmp_path / "data" / f"{index}.png"
        write_image(path, image)
        records.append(
            Record(
                image_id=index,
                path=path,
                size_hw=(128, 160),
                boxes_xyxy=np.array([[10, 10, 60, 70]], np.float32),
                labels=np.array([index % 2]),
                crowd=np.zeros(1, bool),
                difficult=np.zeros(1, bool),
            )
        )
    return DetectionDataset(tuple(records), ("a", "b"), tmp_path / "data", "val", "coco")


def test_every_model_of_the_zoo_exports(
    zoo_name: str,
    small_detector: Callable[..., Detector],
    make_lively: Callable[[nn.Module], nn.Module],
    settle_norms: Callable[[Detector], None],
    tmp_path: Path,
) -> None:
    detector = small_detector(zoo_name)
    make_lively(detector)
    settle_norms(detector)
    (made,) = export(detector, ["onnx"], tmp_path)
    assert made.path == tmp_path / f"{zoo_name}.onnx"
    # Rounding grows on its way through random layers; a wrong layer would be pixels off.
    assert 0 < made.max_box_error <= MAX_BOX_ERROR
    assert 0 < made.max_score_error <= MAX_SCORE_ERROR
    nodes = onnx.load(made.path).graph.node
    kinds = {node.op_type for node in nodes}
    if zoo_name.startswith("faster_rcnn"):  # as many rows as there are proposals
        return
    # Gather, Shape and the like would be traces of Python that every run pays for.
    assert not kinds & {"BatchNormalization", "Gather", "Shape", "Loop", "If", "Expand"}


def test_predictors_equal_the_detector(
    detector: Detector, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    expected = detector.predict_batch(pictures)
    assert min(map(len, expected)) > 3
    for made in export(detector, FORMATS, tmp_path):
        predictor = load_predictor(made.path, threads=1)
        assert predictor.class_names == detector.class_names
        assert predictor.thresholds == detector.thresholds
        assert predictor.manifest.model["name"] == "small"
        for found, wanted in zip(predictor.predict_batch(pictures), expected, strict=True):
            np.testing.assert_array_equal(found.labels, wanted.labels)
            np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
            np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=0.01)


def test_nms_in_the_graph_equals_nms_outside(
    detector: Detector, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    """With more candidates than `candidates_per_class` and `max_detections` let through."""
    expected = detector.predict_batch(pictures)
    assert max(map(len, expected)) == detector.thresholds.max_detections
    for made in export(detector, FORMATS, tmp_path, nms=True, dynamic_batch=True):
        assert made.path.stem == "small-nms"
        predictor = load_predictor(made.path, threads=1)
        assert predictor.session.outputs == ("boxes", "scores", "labels", "count")
        inputs = np.stack([detector.preprocessing.apply(image)[0] for image in pictures])
        boxes, scores, labels, count = predictor.session.run(inputs)
        assert boxes.shape == (3, 25, 4)
        assert scores.shape == labels.shape == (3, 25)
        assert count.tolist() == [len(each) for each in expected]
        for index, kept in enumerate(count):
            assert not scores[index, kept:].any()
            assert not boxes[index, kept:].any()
            assert not labels[index, kept:].any()
        for found, wanted in zip(predictor.predict_batch(pictures), expected, strict=True):
            np.testing.assert_array_equal(found.labels, wanted.labels)
            np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
            np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=0.01)


def test_group_norm_stays_and_is_told(detector: Detector, tmp_path: Path) -> None:
    changed = copy.deepcopy(detector)
    parent, name, norm = next(
        (parent, name, child)
        for parent in changed.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.BatchNorm2d)
    )
    setattr(parent, name, nn.GroupNorm(2, norm.num_features))
    said: list[str] = []
    (made,) = export(changed, ["onnx"], tmp_path, say=said.append)
    assert any("GroupNorm" in line and line.endswith(": 1") for line in said)
    kinds = {node.op_type for node in onnx.load(made.path).graph.node}
    assert kinds & {"InstanceNormalization", "GroupNormalization"}


def test_the_graph_has_greedy_nms_whatever_the_detector_has(
    detector: Detector, tmp_path: Path
) -> None:
    detector.thresholds = replace(detector.thresholds, nms="diou")
    said: list[str] = []
    dense, with_nms = (
        export(detector, ["onnx"], tmp_path, nms=nms, say=said.append)[0] for nms in (False, True)
    )
    assert load_predictor(dense.path).thresholds.nms == "diou"
    assert load_predictor(with_nms.path).thresholds.nms == "greedy"
    assert any("greedy NMS in place of diou" in line for line in said)
    assert detector.thresholds.nms == "diou"
    with pytest.raises(InputError, match="no diou NMS"):
        add_nms(onnx.load(dense.path), detector.thresholds)


def test_a_canvas_of_the_batch_becomes_a_fixed_one(
    make_lively: Callable[[nn.Module], nn.Module], tmp_path: Path
) -> None:
    """Portraits are shrunk into the file's landscape, and torch at that canvas says the same."""
    detector = build("retinanet_snet", classes=["a"], size=(64, 96), width=0.25)
    assert detector.preprocessing.canvas == "batch"
    make_lively(detector).eval()
    said: list[str] = []
    [made] = export(detector, ["onnx"], tmp_path, say=said.append)
    assert "64x96" in said[0]
    predictor = load_predictor(made.path)
    assert predictor.preprocessing.canvas == "fixed"
    portrait = np.random.default_rng(0).integers(0, 255, (120, 80, 3), dtype=np.uint8)
    [found], [expected] = (
        each.predict_batch([portrait]) for each in (predictor, detector.at_size((64, 96)))
    )
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=0.1)


def test_faster_rcnn_is_exported_for_one_image(tmp_path: Path) -> None:
    detector = build("faster_rcnn", backbone="mobilenet_v2", classes=["a"], size=64, width=0.25)
    with pytest.raises(InputError, match="fixed number of images"):
        export(detector, ["onnx"], tmp_path, dynamic_batch=True)


def test_a_file_that_differs_is_refused(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = export_module.to_onnx

    def dishonest(*args: Any, **options: Any) -> onnx.ModelProto:
        model = honest(*args, **options)
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.ndim == 4 and values.size > 100:
                tensor.CopyFrom(onnx.numpy_helper.from_array(values * 1.01, tensor.name))
        return model

    monkeypatch.setattr(export_module, "to_onnx", dishonest)
    with pytest.raises(CheckError, match="does not say what the detector says"):
        export(detector, FORMATS, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_int8(detector: Detector, dataset: DetectionDataset, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    made = export(detector, FORMATS, tmp_path, precision="int8", calibration=dataset)
    assert [each.path.name for each in made] == ["small-int8.onnx", "small-int8.xml"]
    assert (tmp_path / "small-int8.bin").is_file()
    for each in made:
        assert 1e-4 < each.max_score_error < 0.2
        assert each.AP is None
        assert precision_of(load_predictor(each.path, threads=1).manifest) == "int8"
    kinds = [node.op_type for node in onnx.load(made[0].path).graph.node]
    assert kinds.count("DequantizeLinear") > 10
    # What comes after the last convolution reads floats.
    assert kinds.index("Softmax") > max(i for i, kind in enumerate(kinds) if kind == "Conv")
    for name, value in detector.state_dict().items():
        assert torch.equal(value, before[name]), name


def scripted_ap(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    remaining = list(values)

    class Result:
        def __init__(self, ap: float) -> None:
            self.AP = ap

    monkeypatch.setattr(
        export_module,
        "evaluate",
        lambda *_: Result(remaining.pop(0) if len(remaining) > 1 else remaining[0]),
    )


def test_int8_keeps_in_float_what_costs_too_much(
    detector: Detector,
    dataset: DetectionDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The file with none in float, the detector; with the first, the first two in float; then
    # with the second; the file that is kept.
    scripted_ap(monkeypatch, 0.4, 0.5, 0.42, 0.496, 0.41, 0.497)
    said: list[str] = []
    (made,) = export(
        detector, ["onnx"], tmp_path / "out", precision="int8", data=dataset, say=said.append
    )
    assert (made.AP, made.torch_ap) == (0.497, 0.5)
    assert made.loss == pytest.approx(0.4)
    assert len(made.kept_float) == 2
    makers = {
        name: node.op_type for node in onnx.load(made.path).graph.node for name in node.output
    }
    floats = {
        node.name
        for node in onnx.load(made.path).graph.node
        if node.op_type == "Conv" and makers.get(node.input[1]) != "DequantizeLinear"
    }
    assert floats == set(made.kept_float)
    assert any("-10.00 points" in line for line in said)


def test_int8_that_never_gets_there_is_refused(
    detector: Detector,
    dataset: DetectionDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scripted_ap(monkeypatch, 0.1, 0.5, 0.1)
    with pytest.raises(CheckError, match=r"loses 40\.00 points of AP \(limit 0\.5\)"):
        export(detector, ["onnx"], tmp_path / "out", precision="int8", data=dataset)
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.setattr(
        export_module,
        "choose_precision",
        lambda rank, *_, **__: Choice(tuple(each.node for each in rank()), 0.0, True, ()),
    )
    with pytest.raises(CheckError, match="only with every convolution in float"):
        export(detector, ["onnx"], tmp_path / "out", precision="int8", data=dataset)


def test_stored_weights_that_cost_too_much_are_refused(
    detector: Detector,
    dataset: DetectionDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scripted_ap(monkeypatch, 0.488, 0.5)
    with pytest.raises(CheckError, match=r"fp16 loses 1\.20 points"):
        export(detector, ["onnx"], tmp_path / "out", precision="fp16", data=dataset)
    scripted_ap(monkeypatch, 0.488, 0.5, 0.49)
    (made,) = export(detector, ["onnx"], tmp_path, precision="fp16", data=dataset, max_loss=2)
    assert made.loss == pytest.approx(1.2)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8-weights"])
def test_stored_weights(
    detector: Detector, pictures: list[np.ndarray], tmp_path: Path, precision: str
) -> None:
    """Half or a quarter of the file in both formats, which say the same to the bit of rounding."""
    plain = export(detector, FORMATS, tmp_path)
    made = export(detector, FORMATS, tmp_path, precision=precision)
    assert [each.path.name for each in made] == [
        f"small-{precision}{suffix}" for suffix in (".onnx", ".xml")
    ]
    for each, whole in zip(made, plain, strict=True):
        assert 0 < each.max_score_error < 0.05
        assert each.ms is not None
        assert each.fp32_ms is not None
        assert precision_of(load_predictor(each.path, threads=1).manifest) == precision
        weights, of = (
            (file.with_suffix(".bin") if file.suffix == ".xml" else file).stat().st_size
            for file in (each.path, whole.path)
        )
        assert weights < 0.9 * of
    inputs = np.stack([detector.preprocessing.apply(image)[0] for image in pictures])[:1]
    for found, expected in zip(
        *(load_predictor(each.path, threads=1).session.run(inputs) for each in made), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_what_is_not_faster_says_so(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        export_module, "median_milliseconds", lambda calls, **_: {"fp32": 2.0, "this": 3.0}
    )
    said: list[str] = []
    (made,) = export(detector, ["onnx"], tmp_path, precision="fp16", say=said.append)
    assert made.slower_than_fp32
    assert "small-fp16.onnx is not faster than fp32 here: 3.0 against 2.0 ms" in said


def test_ap_of_the_file_beside_the_detector(
    detector: Detector, dataset: DetectionDataset, tmp_path: Path
) -> None:
    (made,) = export(detector, ["onnx"], tmp_path, data=dataset)
    assert pytest.approx(made.torch_ap, abs=1e-6) == made.AP
    assert made.to_dict()["path"] == str(made.path)


def test_what_cannot_be_asked_for(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown format 'tflite'"):
        export(detector, ["onnx", "tflite"], tmp_path)
    with pytest.raises(InputError, match="unknown precision"):
        export(detector, ["onnx"], tmp_path, precision="int4")
    with pytest.raises(InputError, match="AP points cannot be kept"):
        export(detector, ["onnx"], tmp_path, max_loss=-1)
    with pytest.raises(InputError, match="pictures to calibrate on"):
        export(detector, ["onnx"], tmp_path, precision="int8")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        export(detector, ["onnx"], tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


def test_export_is_silent(
    detector: Detector, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export(detector, FORMATS, tmp_path)
    assert capfd.readouterr() == ("", "")
