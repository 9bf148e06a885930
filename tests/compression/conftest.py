"""Detectors to compress, and a small network written by hand as ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from flyweight.models.detectors.detector import Detector

SIDE = 24
ANCHORS = (SIDE // 4) ** 2
CLASSES = 3

Build = Callable[..., Detector]


@pytest.fixture
def trained(small_detector: Build) -> Build:
    """`trained(name, **options)`: norms and biases are not what they start as."""

    def make(name: str, **options: Any) -> Detector:
        detector = small_detector(name, **options).eval()
        for tensor in detector.model.state_dict().values():
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor += 0.5 * torch.rand_like(tensor)
        return detector

    return make


@pytest.fixture
def graph() -> onnx.ModelProto:
    """A stem, a block with a residual, two heads, decoding.

    Images uint8 `[1, 24, 24, 3]` to boxes `[1, 36, 4]` in pixels and scores `[1, 36, 3]`.
    """
    rng = np.random.default_rng(1)
    constants = {
        "scale": np.array(1 / 64, np.float32),
        "low": np.array(0, np.float32),
        "six": np.array(6, np.float32),
        "minus_two": np.array(-2, np.float32),
        "rows4": np.array([1, ANCHORS, 4], np.int64),
        "rows3": np.array([1, ANCHORS, CLASSES], np.int64),
        "eight": np.array(8, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"], "scaling"),
        helper.make_node("Add", ["scaled", "minus_two"], ["shifted"], "shift"),
        helper.make_node("Transpose", ["shifted"], ["nchw"], "to_nchw", perm=[0, 3, 1, 2]),
    ]

    def conv(name: str, source: str, shape: tuple[int, ...], stride: int = 1) -> None:
        groups = shape[0] if shape[1] == 1 and shape[0] > 1 else 1
        spread = 1.5 / np.sqrt(np.prod(shape[1:]))
        constants[f"{name}_w"] = rng.normal(0, spread, shape).astype(np.float32)
        constants[f"{name}_b"] = rng.normal(0, 0.2, shape[0]).astype(np.float32)
        pad = shape[2] // 2
        nodes.append(
            helper.make_node(
                "Conv",
                [source, f"{name}_w", f"{name}_b"],
                [name],
                name,
                kernel_shape=shape[2:],
                strides=[stride] * 2,
                pads=[pad] * 4,
                group=groups,
            )
        )

    conv("stem", "nchw", (8, 3, 3, 3), 2)
    nodes.append(helper.make_node("Clip", ["stem", "low", "six"], ["stem6"], "stem_act"))
    conv("depthwise", "stem6", (8, 1, 3, 3), 2)
    nodes.append(helper.make_node("Relu", ["depthwise"], ["depthwise0"], "depthwise_act"))
    conv("expand", "depthwise0", (8, 8, 1, 1))
    nodes.append(helper.make_node("Add", ["expand", "depthwise0"], ["block"], "residual"))
    conv("deltas", "block", (4, 8, 1, 1))
    conv("logits", "block", (CLASSES, 8, 1, 1))
    for name, rows in (("deltas", "rows4"), ("logits", "rows3")):
        nodes.append(
            helper.make_node("Transpose", [name], [f"{name}_nhwc"], f"{name}_t", perm=[0, 2, 3, 1])
        )
        nodes.append(
            helper.make_node("Reshape", [f"{name}_nhwc", rows], [f"{name}_rows"], f"{name}_r")
        )
    nodes.append(helper.make_node("Softmax", ["logits_rows"], ["scores"], "softmax", axis=-1))
    nodes.append(helper.make_node("Mul", ["deltas_rows", "eight"], ["large"], "decode_mul"))
    nodes.append(helper.make_node("Add", ["large", "eight"], ["boxes"], "decode_add"))
    made = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, ANCHORS, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, ANCHORS, CLASSES]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    model.metadata_props.add(key="flyweight", value="kept")
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def two_stage_graph(graph: onnx.ModelProto) -> onnx.ModelProto:
    """`graph` with two linear layers, behind an addition, in place of the convolution of scores."""
    rng = np.random.default_rng(3)
    constants = {
        "fc6_w": rng.normal(0, 0.5, (16, 8)).astype(np.float32),
        "fc6_b": rng.normal(0, 0.2, 16).astype(np.float32),
        "fc7_w": rng.normal(0, 0.4, (CLASSES, 16)).astype(np.float32),
        "fc7_b": rng.normal(0, 0.2, CLASSES).astype(np.float32),
        "rows8": np.array([ANCHORS, 8], np.int64),
        "half": np.array(0.5, np.float32),
    }
    gone = {"logits", "logits_t", "logits_r", "softmax"}
    nodes = [node for node in graph.graph.node if node.name not in gone]
    nodes += [
        helper.make_node("Transpose", ["block"], ["block_nhwc"], "block_t", perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["block_nhwc", "rows8"], ["regions"], "block_r"),
        helper.make_node("Add", ["regions", "half"], ["pooled"], "pooling"),
        helper.make_node("Gemm", ["pooled", "fc6_w", "fc6_b"], ["fc6"], "fc6", transB=1),
        helper.make_node("Relu", ["fc6"], ["fc6_0"], "fc6_act"),
        helper.make_node("Gemm", ["fc6_0", "fc7_w", "fc7_b"], ["fc7"], "fc7", transB=1),
        helper.make_node("Reshape", ["fc7", "rows3"], ["logits_rows"], "fc7_r"),
        helper.make_node("Softmax", ["logits_rows"], ["scores"], "softmax", axis=-1),
    ]
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    kept = [each for each in graph.graph.initializer if not each.name.startswith("logits")]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items()
    )
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def batches() -> list[np.ndarray]:
    """Twelve smooth pictures in batches of four."""
    rng = np.random.default_rng(2)
    coarse = rng.integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
    images = coarse.repeat(SIDE // 4, axis=1).repeat(SIDE // 4, axis=2)
    return [images[start : start + 4] for start in range(0, 12, 4)]
