"""A model made by hand, whose answers one can tell by looking at the picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flyweight.core.manifest import METADATA_KEY, Manifest, Thresholds
from flyweight.core.preprocessing import Preprocessing

SIDE = 32
CELLS = 4
CELL = SIDE // CELLS


def cell_boxes() -> np.ndarray:
    """`[16, 4]` xyxy: the cells, row by row."""
    rows, columns = np.mgrid[:CELLS, :CELLS].reshape(2, -1) * CELL
    return np.stack([columns, rows, columns + CELL, rows + CELL], axis=1).astype(np.float32)


def colour_model(batch: int | str = 1, **manifest_changes: Any) -> onnx.ModelProto:
    """Scores are the mean red, green and blue of each of 4 x 4 cells; boxes are the cells."""
    constants = {
        "white": np.array(255, np.float32),
        "rows": np.array([0, CELLS * CELLS, 3], np.int64),
        "cells": cell_boxes()[None],
        "first": np.array([0], np.int64),
        "box_shape": np.array([CELLS * CELLS, 4], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["nchw"], ["mean"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]
        ),
        helper.make_node("Div", ["mean", "white"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["nhwc"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["nhwc", "rows"], ["scores"]),
        helper.make_node("Shape", ["scores"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["images_of_run"]),
        helper.make_node("Concat", ["images_of_run", "box_shape"], ["full_shape"], axis=0),
        helper.make_node("Expand", ["cells", "full_shape"], ["boxes"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [batch, CELLS * CELLS, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, CELLS * CELLS, 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content: dict[str, Any] = {
        "model": {"name": "colours"},
        "class_names": ("red", "green", "blue"),
        "preprocessing": Preprocessing(size_hw=(SIDE, SIDE)),
        "thresholds": Thresholds(score=0.1),
    }
    manifest = Manifest(**(content | manifest_changes))
    model.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    return model


@pytest.fixture
def save_model(tmp_path: Path) -> Callable[..., Path]:
    """Write `colour_model(...)` as .onnx or .xml."""

    def save(suffix: str = ".onnx", **options: Any) -> Path:
        model = colour_model(**options)
        path = tmp_path / f"colours{suffix}"
        onnx.save(model, tmp_path / "colours.onnx")
        if suffix == ".xml":
            openvino = pytest.importorskip("openvino")
            converted = openvino.convert_model(str(tmp_path / "colours.onnx"))
            converted.set_rt_info(model.metadata_props[0].value, [METADATA_KEY])
            openvino.save_model(converted, str(path), compress_to_fp16=False)
        return path

    return save


@pytest.fixture(params=[(".onnx", "onnxruntime"), (".onnx", "openvino"), (".xml", "openvino")])
def opened(request: pytest.FixtureRequest, save_model: Callable[..., Path]) -> Any:
    """The predictor of the colour model, in every runtime that can open it."""
    from flyweight.runtime.load import load_predictor

    suffix, runtime = request.param
    if runtime == "openvino":
        pytest.importorskip("openvino")
    return load_predictor(save_model(suffix), threads=1, runtime=runtime)


@pytest.fixture
def picture() -> np.ndarray:
    """RGB `[64, 96, 3]`, black but for one red cell (row 1, column 2) and one blue (row 3, 0)."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[16:32, 48:72, 0] = 255
    image[48:64, 0:24, 2] = 204
    return image
