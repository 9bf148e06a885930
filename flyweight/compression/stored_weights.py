"""Weights stored in fewer bits, the arithmetic left in float: a smaller file of the same speed.

The graph gets the operations that turn them back. Their operands are constants, so a runtime does
them once, when it opens the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

# O output channels

STORED = ("fp16", "bf16", "int8-weights")
LARGEST_FP16 = float(np.finfo(np.float16).max)


def store_weights(
    model: onnx.ModelProto, form: str, *, keep_float: Sequence[str] = ()
) -> onnx.ModelProto:
    """A copy of an fp32 graph with the weights of its layers in `form`; its metadata stays.

    Weights are the constants of two dimensions and more that convolutions and matrix products
    read. Biases and the numbers of decoding stay: they are few, and boxes hang on them.

    Args:
        model: of `flyweight.export.onnx.to_onnx`.
        form: `fp16`, `bf16`, or `int8-weights`: 8 bits, symmetric, a scale per output channel.
        keep_float: names of nodes whose weights stay in fp32.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    axes = _weights(result, keep_float)
    nodes: list[Any] = []
    constants: list[TensorProto] = []
    for tensor in result.graph.initializer:
        axis = axes.get(tensor.name)
        if axis is None or tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            constants.append(tensor)
            continue
        made, added = _stored(tensor, form, axis)
        nodes += made
        constants += added
    nodes += result.graph.node
    kept = [TensorProto.FromString(each.SerializeToString()) for each in constants]
    copies = [onnx.NodeProto.FromString(each.SerializeToString()) for each in nodes]
    del result.graph.initializer[:]
    del result.graph.node[:]
    result.graph.initializer.extend(kept)
    result.graph.node.extend(copies)
    return result


def _weights(model: onnx.ModelProto, keep_float: Sequence[str]) -> dict[str, int]:
    """Names of weights with the axis of their output channels."""
    found: dict[str, int] = {}
    for node in model.graph.node:
        if node.name in keep_float:
            continue
        if node.op_type == "Conv":
            found[node.input[1]] = 0
        elif node.op_type == "ConvTranspose":
            groups = next((each.i for each in node.attribute if each.name == "group"), 1)
            # In groups a column is shared by the outputs of all: a scale per input channel fits.
            found[node.input[1]] = 1 if groups == 1 else 0
        elif node.op_type == "Gemm":
            transposed = any(each.name == "transB" and each.i for each in node.attribute)
            found[node.input[1]] = 0 if transposed else 1
        elif node.op_type == "MatMul":
            found[node.input[1]] = -1
    return found


def _stored(tensor: TensorProto, form: str, axis: int) -> tuple[list[Any], list[TensorProto]]:
    """Nodes that make the tensor `tensor.name` again, and the constants that they read."""
    name, stored = tensor.name, f"{tensor.name}/stored"
    values = numpy_helper.to_array(tensor)
    if form == "int8-weights":
        integers, scales = _int8(values, axis)
        cast = helper.make_node(
            "Cast", [stored], [f"{name}/float"], f"{name}/cast", to=TensorProto.FLOAT
        )
        # A Cast and a Mul where DequantizeLinear would be the word for it: ONNX Runtime keeps the
        # latter for kernels in int8, and would turn the weights back in every run.
        scale = helper.make_node(
            "Mul", [f"{name}/float", f"{name}/scale"], [name], f"{name}/scaled"
        )
        return [cast, scale], [
            numpy_helper.from_array(integers, stored),
            numpy_helper.from_array(scales, f"{name}/scale"),
        ]
    short: npt.NDArray[Any]
    if form == "fp16":
        short = np.clip(values, -LARGEST_FP16, LARGEST_FP16).astype(np.float16)
    else:
        short = values.astype(ml_dtypes.bfloat16)
    cast = helper.make_node("Cast", [stored], [name], f"{name}/cast", to=TensorProto.FLOAT)
    return [cast], [numpy_helper.from_array(short, stored)]


def _int8(
    values: npt.NDArray[np.float32], axis: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Integers in -127 to 127 and the scales `[1, ..., O, ..., 1]` that turn them back."""
    others = tuple(each for each in range(values.ndim) if each != axis % values.ndim)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.clip(np.rint(values / scales), -127, 127).astype(np.int8), scales
