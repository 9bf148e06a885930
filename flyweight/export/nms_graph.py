"""Non-maximum suppression as nodes of an ONNX graph, for those who can run only the graph.

The rule is that of `flyweight.core.nms.select_detections`: per class the best candidates above the
score, class-aware NMS, the best detections of all classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flyweight.core.errors import InputError
from flyweight.core.manifest import Thresholds

# N images, A anchors, C classes, K detections at most, S survivors of NMS in all images


class _Nodes:
    """Adds nodes and constants to a graph, with names of their own."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        name = output if output in ("boxes", "scores", "labels", "count") else f"nms/{output}"
        node = helper.make_node(op, list(inputs), [name], name=f"nms/{output}_node", **attributes)
        self.graph.node.append(node)
        return name

    def constant(self, name: str, value: Any, dtype: type) -> str:
        tensor = numpy_helper.from_array(np.asarray(value, dtype=dtype), f"nms/{name}")
        self.graph.initializer.append(tensor)
        return tensor.name


def add_nms(model: onnx.ModelProto, thresholds: Thresholds) -> onnx.ModelProto:
    """A copy of a dense `model` that gives detections.

    Returns:
        Outputs `boxes` float32 `[N, K, 4]` xyxy in input pixels, `scores` float32 `[N, K]`, best
        first, `labels` int64 `[N, K]` and `count` int64 `[N]`; rows from `count` on are zero.

    Raises:
        InputError: the thresholds want another NMS than the greedy one.
    """
    if thresholds.nms != "greedy":
        raise InputError(
            f"ONNX has no {thresholds.nms} NMS",
            where="nms",
            fix="export dense outputs, or choose greedy NMS",
        )
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    batch, anchors, classes = _dense_shape(graph)
    _rename(graph, {"boxes": "dense_boxes", "scores": "dense_scores"})
    nodes = _Nodes(graph)
    kept = min(thresholds.max_detections, anchors * classes)
    by_class = nodes.add("Transpose", ["dense_scores"], "by_class", perm=[0, 2, 1])
    candidates = _candidates(nodes, by_class, thresholds, anchors)
    selected = nodes.add(
        "NonMaxSuppression",
        [
            "dense_boxes",
            candidates,
            nodes.constant("most_per_class", [kept], np.int64),
            nodes.constant("iou", [thresholds.iou], np.float32),
            nodes.constant("score", [thresholds.score], np.float32),
        ],
        "selected",  # [S, 3] of image, class, anchor
    )
    survivors = nodes.add("GatherND", [by_class, selected], "survivors")  # [S]
    # Back into a dense tensor, since S is of all images: a TopK can then go image by image.
    shape = nodes.add("Shape", [by_class], "dense_shape")
    zeros = nodes.add(
        "ConstantOfShape", [shape], "zeros", value=numpy_helper.from_array(np.zeros(1, np.float32))
    )
    dense = nodes.add("ScatterND", [zeros, selected, survivors], "dense")  # [N, C, A]
    flat = nodes.add("Reshape", [dense, nodes.constant("flat_shape", [0, -1], np.int64)], "flat")
    topk = nodes.constant("kept", [kept], np.int64)
    graph.node.append(
        helper.make_node(
            "TopK", [flat, topk], ["scores", "nms/places"], name="nms/topk_node", axis=1
        )
    )
    _gather_outputs(nodes, anchors)
    _declare_outputs(graph, batch, kept)
    return result


def _candidates(nodes: _Nodes, by_class: str, thresholds: Thresholds, anchors: int) -> str:
    """`[N, C, A]` scores, zero but for the best of each class."""
    if thresholds.candidates_per_class >= anchors:
        return by_class
    most = nodes.constant("candidates", [thresholds.candidates_per_class], np.int64)
    best = helper.make_node(
        "TopK", [by_class, most], ["nms/best", "nms/best_places"], name="nms/best_node", axis=2
    )
    nodes.graph.node.append(best)
    last = nodes.constant("last", [thresholds.candidates_per_class - 1], np.int64)
    lowest = nodes.add("Gather", ["nms/best", last], "lowest", axis=2)  # [N, C, 1]
    among = nodes.add("GreaterOrEqual", [by_class, lowest], "among")
    return nodes.add(
        "Where", [among, by_class, nodes.constant("nothing", 0.0, np.float32)], "candidate_scores"
    )


def _gather_outputs(nodes: _Nodes, anchors: int) -> None:
    """Boxes, labels and count from `scores [N, K]` and their places `[N, K]` in `[C * A]`."""
    count_axis = nodes.constant("count_axis", [1], np.int64)
    filled = nodes.add("Greater", ["scores", nodes.constant("zero", 0.0, np.float32)], "filled")
    as_integers = nodes.add("Cast", [filled], "filled_integers", to=TensorProto.INT64)
    nodes.add("ReduceSum", [as_integers, count_axis], "count", keepdims=0)
    divisor = nodes.constant("anchors", anchors, np.int64)
    label = nodes.add("Div", ["nms/places", divisor], "label")
    nodes.add("Mul", [label, as_integers], "labels")
    anchor = nodes.add("Mod", ["nms/places", divisor], "anchor")
    column = nodes.add(
        "Unsqueeze", [anchor, nodes.constant("last_axis", [2], np.int64)], "anchor_column"
    )
    boxes = nodes.add("GatherND", ["dense_boxes", column], "gathered", batch_dims=1)  # [N, K, 4]
    weights = nodes.add("Cast", [filled], "filled_floats", to=TensorProto.FLOAT)
    weights = nodes.add(
        "Unsqueeze", [weights, nodes.constant("box_axis", [2], np.int64)], "filled_column"
    )
    nodes.add("Mul", [boxes, weights], "boxes")


def _dense_shape(graph: onnx.GraphProto) -> tuple[int | str, int, int]:
    """N (a name where it is free), A and C of the output `scores`."""
    scores = next(output for output in graph.output if output.name == "scores")
    batch, anchors, classes = scores.type.tensor_type.shape.dim
    return batch.dim_param or batch.dim_value, anchors.dim_value, classes.dim_value


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        for values in (node.input, node.output):
            for index, value in enumerate(values):
                values[index] = names.get(value, value)


def _declare_outputs(graph: onnx.GraphProto, batch: int | str, kept: int) -> None:
    del graph.output[:]
    for name, dtype, shape in (
        ("boxes", TensorProto.FLOAT, [batch, kept, 4]),
        ("scores", TensorProto.FLOAT, [batch, kept]),
        ("labels", TensorProto.INT64, [batch, kept]),
        ("count", TensorProto.INT64, [batch]),
    ):
        graph.output.append(helper.make_tensor_value_info(name, dtype, shape))
