"""The convolutions and linear layers of an exported graph, as the network names them.

Weights keep their names through export, and a tensor's height tells how far it is from the input;
so a convolution can be called `backbone.block1.depthwise`, and stands in a group such as `backbone,
stride 4` or `head, boxes`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

# C channels, H x W cells

PREFIXES = ("model.",)
# Activations that int8 leaves in float; swish is a sigmoid and a product in the graph.
FLOAT_ACTIVATIONS = {"HardSwish": "h-swish", "HardSigmoid": "h-swish", "Sigmoid": "swish"}
# Operators with the weights of a layer: a convolution, and a linear layer of a box head.
LAYER_OPERATORS = ("Conv", "Gemm")
FILLERS = ("layers", "levels", "conv", "weight")


@dataclass(frozen=True)
class Layer:
    """A convolution, or linear layer, with the activation that int8 merges into it.

    Attributes:
        node: its name in the graph.
        name: of its module in the network; several nodes may share one.
        kind: such as `3x3 depthwise`, or `linear`.
        group: what it belongs to: a part of the network and, of the backbone, its stride, of a
            head, the outputs that it serves.
        stride: pixels of the input a cell of its output; 0 of a linear layer, which has no cells.
        macs: of one image; of a linear layer of one row, where their number is not fixed.
        input, weight, output: names of tensors; the output is the activation's, where int8 has one.
        sums: what the convolution itself gives; `output` where no activation is behind it.
        activation: operator behind it, whether int8 has it or not; empty without.
    """

    node: str
    name: str
    kind: str
    group: str
    stride: int
    macs: int
    input: str
    weight: str
    output: str
    sums: str
    activation: str = ""

    @property
    def label(self) -> str:
        """The name, and the stride: a head's convolution may serve every level."""
        return f"{self.name} (stride {self.stride})" if self.stride else self.name


def layers_of(model: onnx.ModelProto) -> list[Layer]:
    """Every convolution and linear layer of the graph, in its order."""
    shapes = tensor_shapes(model)
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    height = shapes[model.graph.input[0].name][1]
    serves = _served_outputs(model)
    return [
        _layer(node, shapes, weights[node.input[1]], readers, height, serves[node.name])
        for node in model.graph.node
        if node.op_type in LAYER_OPERATORS and node.input[1] in weights
    ]


def companions(model: onnx.ModelProto, nodes: Collection[str], among: Sequence[str]) -> list[str]:
    """`nodes` and those of `among` that read nothing but what these and each other make."""
    inside = set(nodes)
    allowed = set(among)
    constants = {tensor.name for tensor in model.graph.initializer}
    made = {name for node in model.graph.node if node.name in inside for name in node.output}
    for node in model.graph.node:
        if node.name not in allowed or node.op_type in LAYER_OPERATORS:
            continue
        if all(name in made or name in constants for name in node.input if name):
            inside.add(node.name)
            made.update(node.output)
    return [node.name for node in model.graph.node if node.name in inside]


def tensor_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors between the nodes; a free dimension is 1."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    return {
        value.name: tuple(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }


def _layer(
    node: Any,
    shapes: dict[str, tuple[int, ...]],
    weight: tuple[int, ...],
    readers: dict[str, list[Any]],
    height: int,
    serves: frozenset[str],
) -> Layer:
    if node.op_type == "Gemm":
        stride, macs = 0, math.prod(weight) * shapes.get(node.output[0], (1,))[0]
    else:
        out = shapes.get(node.output[0], (1, weight[0], 1, 1))
        stride = max(1, round(height / max(out[2], 1)))
        macs = math.prod(weight[1:]) * math.prod(out[1:])
    name = module_name(node.input[1])
    following = readers.get(node.output[0], [])
    merged = [each for each in following if each.op_type in ("Relu", "Clip")]
    kept = [each for each in following if each.op_type in FLOAT_ACTIVATIONS]
    return Layer(
        node=node.name,
        name=name,
        kind=_kind(node, weight),
        group=_group(name, stride, serves),
        stride=stride,
        macs=macs,
        input=node.input[0],
        weight=node.input[1],
        output=merged[0].output[0] if merged else node.output[0],
        sums=node.output[0],
        activation=next((each.op_type for each in (*merged, *kept)), ""),
    )


def module_name(weight: str) -> str:
    """`backbone.block1.depthwise` of `model.backbone.layers.block1.depthwise.conv.weight`."""
    for prefix in PREFIXES:
        weight = weight.removeprefix(prefix)
    words = weight.split(".")
    kept = [word for word in words[1:] if word not in FILLERS]
    return ".".join([words[0], *kept])


def _kind(node: Any, weight: tuple[int, ...]) -> str:
    if node.op_type == "Gemm":
        return "linear"
    kernel = "x".join(str(side) for side in weight[2:])
    groups = next((each.i for each in node.attribute if each.name == "group"), 1)
    if groups > 1:
        return f"{kernel} depthwise" if weight[1] == 1 else f"{kernel} in {groups} groups"
    return kernel


def _group(name: str, stride: int, serves: frozenset[str]) -> str:
    part = name.split(".")[0]
    if part == "backbone":
        return f"backbone, stride {stride}"
    if part == "neck":
        return part
    names = ["classes" if each == "scores" else each for each in sorted(serves)]
    return f"{part}, {' and '.join(names)}"


def _served_outputs(model: onnx.ModelProto) -> dict[str, frozenset[str]]:
    """Which outputs of the graph each convolution reaches."""
    reached: dict[str, frozenset[str]] = {
        out.name: frozenset({out.name}) for out in model.graph.output
    }
    found: dict[str, frozenset[str]] = {}
    for node in reversed(model.graph.node):
        outputs = frozenset().union(*(reached.get(name, frozenset()) for name in node.output))
        found[node.name] = outputs
        for name in node.input:
            reached[name] = reached.get(name, frozenset()) | outputs
    return found
