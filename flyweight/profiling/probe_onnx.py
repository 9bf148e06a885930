"""A drafted network as an ONNX graph with random weights, for runtimes to be timed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flyweight.profiling.draft import INPUT
from flyweight.profiling.operation import NetworkCost, Operation

# The version that `flyweight export` writes.
OPSET = 18
IMAGE_CHANNELS = 3
BOX_VALUES = 4
WEIGHT_DEVIATION = 0.05


def to_onnx(cost: NetworkCost) -> bytes:
    """The file's content.

    A network that starts from three channels takes pictures as exported detectors do: uint8
    `[1, H, W, 3]`, normalised in the graph. Any other takes float32 `[1, C, H, W]`. Outputs of rows
    `[1, anchors, values]` are decoded: four values as boxes, others as scores.
    """
    graph = _Graph(cost)
    for index, operation in enumerate(cost.operations):
        graph.write(index, operation)
    return graph.finish()


class _Graph:
    def __init__(self, cost: NetworkCost) -> None:
        self.cost = cost
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.random = np.random.default_rng(0)
        self.input = helper.make_tensor_value_info("input", TensorProto.FLOAT, cost.input_shape)
        self.names = {INPUT: "input"}
        if cost.input_shape[1] == IMAGE_CHANNELS:
            self._take_pictures()

    def _take_pictures(self) -> None:
        batch, channels, height, width = self.cost.input_shape
        shape = (batch, height, width, channels)
        self.input = helper.make_tensor_value_info("input", TensorProto.UINT8, shape)
        name = self.node("Transpose", ["input"], perm=[0, 3, 1, 2])
        name = self.node("Cast", [name], to=TensorProto.FLOAT)
        name = self.node("Mul", [name, self.weight((1, channels, 1, 1))])
        self.names[INPUT] = self.node("Add", [name, self.weight((1, channels, 1, 1))])

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        made = helper.make_node(operator, inputs, [name], name=f"node_{name}", **attributes)
        self.nodes.append(made)
        return name

    def weight(self, shape: tuple[int, ...]) -> str:
        """Add random float32 weights."""
        values = self.random.normal(0, WEIGHT_DEVIATION, shape).astype(np.float32)
        return self.constant(values)

    def constant(self, values: Any) -> str:
        """Add an initializer."""
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def write(self, index: int, operation: Operation) -> None:
        """Add the nodes of one operation."""
        inputs = [
            self._viewed(source, shape, operation.kind)
            for source, shape in zip(operation.inputs, operation.input_shapes, strict=True)
        ]
        if operation.kind not in WRITERS:
            raise ValueError(f"no ONNX operator is known for {operation.kind!r}")
        self.names[index] = WRITERS[operation.kind](self, operation, inputs)

    def _viewed(self, source: int, shape: tuple[int, ...], kind: str) -> str:
        """The output of `source`, in another shape where that is how it is read."""
        written = (
            self.cost.input_shape if source == INPUT else self.cost.operations[source].output_shape
        )
        name = self.names[source]
        if written == shape or kind == "copy":
            return name
        if len(shape) == len(written) == 4:
            # a concatenation takes the channels that passed by, the first ones
            start = 0 if kind == "concat" else written[1] - shape[1]
            ends = (self.constant([value]) for value in (start, start + shape[1], 1))
            return self.node("Slice", [name, *ends])
        return self.node("Reshape", [name, self.constant(np.array(shape, dtype=np.int64))])

    def _decoded(self, index: int) -> str:
        """An output; rows `[1, anchors, values]` as exported detectors decode them."""
        name, shape = self.names[index], self.cost.operations[index].output_shape
        if len(shape) != 3:
            return name
        if shape[2] != BOX_VALUES:
            return self.node("Softmax", [name], axis=-1)
        rows = (shape[1], BOX_VALUES // 2)
        name = self.node("Mul", [name, self.weight(shape[1:])])
        first, second = (
            self.node("Slice", [name, *(self.constant([value]) for value in (start, start + 2, 2))])
            for start in (0, 2)
        )
        half = self.node("Exp", [self.node("Clip", [second, "", self.constant(np.float32(4))])])
        centre = self.node("Add", [first, self.weight(rows)])
        half = self.node("Mul", [half, self.weight(rows)])
        corners = [self.node("Sub", [centre, half]), self.node("Add", [centre, half])]
        name = self.node("Concat", corners, axis=2)
        name = self.node("Max", [name, self.constant(np.float32(0))])
        return self.node("Min", [name, self.weight((BOX_VALUES,))])

    def finish(self) -> bytes:
        """The model, checked."""
        outputs = [
            helper.make_tensor_value_info(
                self._decoded(index), TensorProto.FLOAT, self.cost.operations[index].output_shape
            )
            for index in self.cost.outputs
        ]
        graph = helper.make_graph(
            self.nodes, self.cost.name, [self.input], outputs, initializer=self.weights
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=9)
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content


def _window(operation: Operation) -> dict[str, list[int]]:
    geometry = operation.geometry
    assert geometry is not None
    return {
        "kernel_shape": list(geometry.kernel_hw),
        "strides": list(geometry.stride_hw),
        "pads": [*geometry.padding_hw] * 2,
    }


def _conv(graph: _Graph, operation: Operation, inputs: list[str]) -> str:
    geometry = operation.geometry
    assert geometry is not None
    channels, read = operation.output_shape[1], operation.input_shapes[0][1]
    weight = graph.weight((channels, read // geometry.groups, *geometry.kernel_hw))
    return graph.node(
        "Conv",
        [*inputs, weight, graph.weight((channels,))],
        group=geometry.groups,
        dilations=list(geometry.dilation_hw),
        **_window(operation),
    )


def _linear(graph: _Graph, operation: Operation, inputs: list[str]) -> str:
    shape = (operation.input_shapes[0][-1], operation.output_shape[-1])
    return graph.node("Gemm", [*inputs, graph.weight(shape), graph.weight(shape[1:])])


def _pool(operator: str) -> Writer:
    return lambda graph, operation, inputs: graph.node(operator, inputs, **_window(operation))


def _node(operator: str, **attributes: Any) -> Writer:
    return lambda graph, operation, inputs: graph.node(operator, inputs, **attributes)


def _binary(operator: str) -> Writer:
    """Of two activations, or of one and a constant of its shape."""

    def write(graph: _Graph, operation: Operation, inputs: list[str]) -> str:
        other = [] if len(inputs) == 2 else [graph.weight(operation.output_shape[1:])]
        return graph.node(operator, inputs + other)

    return write


def _clip(graph: _Graph, operation: Operation, inputs: list[str]) -> str:
    limits = [graph.constant(np.float32(value)) for value in (0, 6)]
    return graph.node("Clip", [*inputs, *limits])


def _silu(graph: _Graph, operation: Operation, inputs: list[str]) -> str:
    return graph.node("Mul", [*inputs, graph.node("Sigmoid", inputs)])


def _mean(graph: _Graph, operation: Operation, inputs: list[str]) -> str:
    return graph.node("ReduceMean", [*inputs, graph.constant(np.array([2, 3]))], keepdims=1)


def _resize(graph: _Graph, operation: Operation, inputs: list[str]) -> str:
    sizes = graph.constant(np.array(operation.output_shape, dtype=np.int64))
    return graph.node(
        "Resize",
        [*inputs, "", "", sizes],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _group_norm(graph: _Graph, operation: Operation, inputs: list[str]) -> str:
    """As torch's exporter writes it for opset 18: InstanceNormalization over groups."""
    channels = operation.output_shape[1]
    groups = 32 if channels % 32 == 0 else 8
    rows = graph.constant(np.array([0, groups, -1]))
    ones = graph.constant(np.ones(groups, np.float32))
    zeros = graph.constant(np.zeros(groups, np.float32))
    name = graph.node("Reshape", [*inputs, rows])
    name = graph.node("InstanceNormalization", [name, ones, zeros])
    name = graph.node("Reshape", [name, graph.constant(np.array(operation.output_shape))])
    name = graph.node("Mul", [name, graph.weight((channels, 1, 1))])
    return graph.node("Add", [name, graph.weight((channels, 1, 1))])


def _batch_norm(graph: _Graph, operation: Operation, inputs: list[str]) -> str:
    shape = (operation.output_shape[1],)
    ones = graph.constant(np.ones(shape, np.float32))
    others = [graph.weight(shape) for _ in range(3)]
    return graph.node("BatchNormalization", [*inputs, *others, ones])


def _copy(graph: _Graph, operation: Operation, inputs: list[str]) -> str:
    """Predictions laid out by anchor: the one copy that a detector makes."""
    return graph.node("Transpose", inputs, perm=[0, 2, 3, 1])


def _shuffle(graph: _Graph, operation: Operation, inputs: list[str]) -> str:
    """Channel shuffle of two groups (ShuffleNet, figure 1)."""
    _, channels, height, width = operation.output_shape
    parted = graph.constant(np.array([1, 2, channels // 2, height, width]))
    name = graph.node("Reshape", [*inputs, parted])
    name = graph.node("Transpose", [name], perm=[0, 2, 1, 3, 4])
    return graph.node("Reshape", [name, graph.constant(np.array(operation.output_shape))])


Writer = Callable[[_Graph, Operation, list[str]], str]

WRITERS: dict[str, Writer] = {
    "conv2d": _conv,
    "linear": _linear,
    "max_pool2d": _pool("MaxPool"),
    "avg_pool2d": _pool("AveragePool"),
    "global_avg_pool": _mean,
    "relu": _node("Relu"),
    "relu6": _clip,
    "hardswish": _node("HardSwish"),
    "hardsigmoid": _node("HardSigmoid", alpha=1 / 6, beta=0.5),
    "sigmoid": _node("Sigmoid"),
    "leaky_relu": _node("LeakyRelu", alpha=0.1),
    "silu": _silu,
    "exp": _node("Exp"),
    "softmax": _node("Softmax", axis=-1),
    "add": _binary("Add"),
    "mul": _binary("Mul"),
    "concat": _node("Concat", axis=1),
    "copy": _copy,
    "interpolate": _resize,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "channel_shuffle": _shuffle,
}
