"""A network as detectors are, convolutions and one box a cell, without the minutes of training."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flyweight.core.manifest import METADATA_KEY, Manifest, Thresholds
from flyweight.core.preprocessing import Preprocessing

HEIGHT, WIDTH, STRIDE = 64, 96, 8
ROWS, COLUMNS = HEIGHT // STRIDE, WIDTH // STRIDE
CELLS = ROWS * COLUMNS
CLASSES = 2
CHANNELS = 8


def anchor_model() -> onnx.ModelProto:
    """Two convolutions with random weights; boxes are moved by up to half a stride."""
    rng = np.random.default_rng(2)
    y, x = (np.mgrid[:ROWS, :COLUMNS].reshape(2, -1) + 0.5) * STRIDE
    half = np.array([-11, -9, 11, 9], np.float32)
    constants: dict[str, np.ndarray] = {
        "shift": np.array(127.5, np.float32),
        "half_stride": np.array(STRIDE / 2, np.float32),
        "anchors": (np.stack([x, y, x, y], axis=1) + half).astype(np.float32)[None],
        "stem": rng.normal(0, 0.15, (CHANNELS, 3, STRIDE, STRIDE)).astype(np.float32),
        "box_weights": rng.normal(0, 0.4, (4, CHANNELS, 3, 3)).astype(np.float32),
        "class_weights": rng.normal(0, 0.3, (CLASSES, CHANNELS, 3, 3)).astype(np.float32),
        "box_rows": np.array([1, CELLS, 4], np.int64),
        "class_rows": np.array([1, CELLS, CLASSES], np.int64),
    }
    around = [1, 1, 1, 1]
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "shift"], ["centred"]),
        helper.make_node("Div", ["centred", "shift"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "Conv", ["nchw", "stem"], ["cells"], kernel_shape=[STRIDE] * 2, strides=[STRIDE] * 2
        ),
        helper.make_node("Relu", ["cells"], ["features"]),
        helper.make_node("Conv", ["features", "box_weights"], ["moves"], pads=around),
        helper.make_node("Tanh", ["moves"], ["small_moves"]),
        helper.make_node("Transpose", ["small_moves"], ["moves_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["moves_last", "box_rows"], ["rows"]),
        helper.make_node("Mul", ["rows", "half_stride"], ["pixels"]),
        helper.make_node("Add", ["pixels", "anchors"], ["boxes"]),
        helper.make_node("Conv", ["features", "class_weights"], ["logits"], pads=around),
        helper.make_node("Sigmoid", ["logits"], ["likely"]),
        helper.make_node("Transpose", ["likely"], ["likely_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["likely_last", "class_rows"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "anchors",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, HEIGHT, WIDTH, 3])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, CELLS, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, CELLS, CLASSES]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    manifest = Manifest(
        {"name": "anchors"},
        class_names=("first", "second"),
        preprocessing=Preprocessing(size_hw=(HEIGHT, WIDTH)),
        thresholds=Thresholds(score=0.05, iou=0.45, candidates_per_class=90, max_detections=190),
    )
    model.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    return model
