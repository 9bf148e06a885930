"""Layers of exported files are found again, and a profile's layers make up its run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from flyweight.core.errors import InputError
from flyweight.profiling import onnxruntime_times, torch_times
from flyweight.profiling.layer_times import (
    GraphNode,
    LayerTimes,
    common_layer,
    fill_layers,
    median_layers,
    name_layers,
)

# channels of the small network: wide enough that its profile is not all overhead
CHANNELS, SIDE = 16, 24


def test_layers_are_named_after_their_weights() -> None:
    nodes = [
        GraphNode("n0", ("images", "w0"), ("a",)),
        GraphNode("n1", ("a",), ("b",)),
        GraphNode("r", ("w1",), ("w1 reshaped",)),
        GraphNode("n2", ("b", "w1 reshaped"), ("c",)),
        GraphNode("n3", ("b", "c"), ("d",)),
        GraphNode("n4", ("images", "limit"), ("e",)),
    ]
    constants = {
        "w0": "model.backbone.stem.conv.weight",
        "w1": "model.backbone.block1.conv.weight_quantized",
        "limit": "val_17",
    }
    layers = name_layers(nodes, constants)
    assert layers["n0"] == layers["a"] == layers["n1"] == "backbone.stem.conv"
    assert layers["n2"] == "backbone.block1.conv"
    assert layers["n3"] == "backbone"
    assert layers["n4"] == ""


def test_the_common_layer() -> None:
    assert common_layer(["head.box.0", "head.box.1"]) == "head.box"
    assert common_layer(["head.box", "heads.box"]) == ""
    assert common_layer(["neck.0.conv", "neck.1.conv"]) == "neck"
    assert common_layer(["neck.0", ""]) == "neck.0"
    assert common_layer([]) == ""


def test_operators_without_a_name_belong_to_what_ran_before() -> None:
    rows = [("", "Cast", 1.0), ("a", "Conv", 2.0), ("", "Reorder", 3.0)]
    assert [layer for layer, _, _ in fill_layers(rows)] == ["", "a", "a"]


def test_medians_and_spreads_by_hand() -> None:
    runs = [[("a", "Conv", value), ("b", "Add", 1.0)] for value in (1.0, 2.0, 3.0, 4.0, 50.0)]
    first, second = median_layers(runs)
    assert (first.layer, first.operator, first.milliseconds, first.spread) == ("a", "Conv", 3, 1)
    assert (second.milliseconds, second.spread) == (1.0, 0.0)


def test_runs_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="differ"):
        median_layers([[("a", "Conv", 1.0)], [("b", "Conv", 1.0)]])
    with pytest.raises(InputError, match="differ"):
        median_layers([])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions, named as `flyweight export` names them, an activation, a sum."""
    random = np.random.default_rng(0)
    shape = (CHANNELS, CHANNELS, 3, 3)
    weights = [
        numpy_helper.from_array(
            random.normal(0, 0.1, shape).astype(np.float32), f"model.body.{name}.conv.weight"
        )
        for name in ("first", "second")
    ]
    nodes = [
        helper.make_node("Conv", ["images", weights[0].name], ["a"], "node_a", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], "node_b"),
        helper.make_node("Conv", ["b", weights[1].name], ["c"], "node_c", pads=[1] * 4),
        helper.make_node("Add", ["c", "b"], ["d"], "node_d"),
        helper.make_node("Exp", ["d"], ["boxes"], "node_e"),
    ]
    sizes = [1, CHANNELS, SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, sizes)],
        initializer=weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    onnx.save(model, path)
    return path


def check(times: LayerTimes) -> None:
    """The layers are in order, named, and together less than the run."""
    assert times.threads == 1
    names = list(dict.fromkeys(each.layer for each in times.layers if each.layer))
    assert names == ["body.first.conv", "body.second.conv", "body"][: len(names)]
    assert {"body.first.conv", "body.second.conv"} <= set(names)
    total = sum(each.milliseconds for each in times.layers)
    assert total > 0
    assert sum(times.by_layer().values()) == pytest.approx(total)


def test_onnxruntime_times_every_layer(exported: Path) -> None:
    times = onnxruntime_times.time_layers(exported, threads=1, repeats=5)
    check(times)
    assert [each.operator for each in times.layers].count("Conv") == 2


def test_openvino_times_every_layer(exported: Path) -> None:
    pytest.importorskip("openvino")
    from flyweight.profiling import openvino_times

    times = openvino_times.time_layers(exported, threads=1, repeats=5)
    check(times)
    convolutions = [each for each in times.layers if each.operator.startswith("Convolution")]
    assert len(convolutions) == 2


def test_the_layers_of_each_run_are_less_than_the_run(exported: Path, tmp_path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    for _ in range(4):
        session.run(None, {"images": np.zeros((1, CHANNELS, SIDE, SIDE), np.float32)})
    path = Path(session.end_profiling())
    whole = [each["dur"] for each in json.loads(path.read_text()) if each["name"] == "model_run"]
    runs = onnxruntime_times.parse_profile(path, {})
    assert len(runs) == len(whole) == 4
    for rows, microseconds in zip(runs, whole, strict=True):
        assert 0 < sum(milliseconds for *_, milliseconds in rows) <= microseconds / 1e3


def test_torch_times_every_layer(small_detector: Callable[..., Any]) -> None:
    detector = small_detector("ssdlite320_mobilenet_v3_small").train()
    images = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    times = torch_times.time_layers(detector, images, threads=1, repeats=3)
    assert detector.training
    assert not any(module._forward_hooks for module in detector.modules())
    convolutions = {each.layer for each in times.layers if each.operator == "conv2d"}
    expected = {
        name.removeprefix("model.")
        for name, module in detector.named_modules()
        if isinstance(module, torch.nn.Conv2d)
    }
    assert convolutions == expected
    assert sum(each.milliseconds for each in times.layers) < times.profiled_run.milliseconds


@pytest.mark.parametrize("content", ["", "{}", '{"name": 1}', "[1]", '[{"name": "x"}]'])
def test_what_is_no_profile_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(content)
    if content == "{}":
        assert onnxruntime_times.parse_profile(path, {}) == []
        return
    with pytest.raises(InputError, match="no profile"):
        onnxruntime_times.parse_profile(path, {})


def test_damaged_and_missing_files_are_refused(exported: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from flyweight.profiling import openvino_times

    cut = tmp_path / "cut.onnx"
    cut.write_bytes(exported.read_bytes()[:500])
    for time_layers in (onnxruntime_times.time_layers, openvino_times.time_layers):
        with pytest.raises(InputError, match="truncated"):
            time_layers(cut)
        with pytest.raises(InputError, match="does not exist"):
            time_layers(tmp_path / "missing.onnx")
