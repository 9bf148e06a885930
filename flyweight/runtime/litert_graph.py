"""The graph of a .tflite file, checked before the runtime builds kernels from it.

LiteRT checks that a flatbuffer's offsets lie inside the file, and most of its kernels their inputs;
some read what is not there (an operator without its weights, a tensor without a shape) and end the
process. Whatever Flyweight exports has one plain graph; anything else is refused here.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from flyweight.core.errors import InputError

# Inputs of each operator, least and most. Nothing that keeps state, branches, calls or is custom.
ONE, TWO = (1, 1), (2, 2)
ARITY = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), (2, 3)),
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "POW"), TWO),
    **dict.fromkeys(("SQUARED_DIFFERENCE", "BATCH_MATMUL", "PRELU", "GATHER"), TWO),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "TRANSPOSE", "PAD"), TWO),
    **dict.fromkeys(("BROADCAST_TO", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), TWO),
    **dict.fromkeys(("GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "EQUAL"), TWO),
    **dict.fromkeys(("MAX_POOL_2D", "AVERAGE_POOL_2D", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH"), ONE),
    **dict.fromkeys(("CAST", "QUANTIZE", "DEQUANTIZE", "L2_NORMALIZATION", "SOFTMAX"), ONE),
    **dict.fromkeys(("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU"), ONE),
    **dict.fromkeys(("HARD_SWISH", "LOGISTIC", "TANH", "ELU", "GELU", "EXP", "LOG"), ONE),
    **dict.fromkeys(("ABS", "NEG", "SQRT", "RSQRT", "SQUARE", "FLOOR", "ROUND"), ONE),
    **dict.fromkeys(("SLICE", "SELECT_V2", "SELECT", "PADV2"), (3, 3)),
    "RESHAPE": (1, 2),
    "CONCATENATION": (1, 4096),
    "TRANSPOSE_CONV": (3, 4),
    "STRIDED_SLICE": (4, 4),
}
# Those whose last input, a bias, may be left out by its index.
OPTIONAL_BIAS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
# Options by which a kernel divides.
DIVISORS = ("stride", "filter", "dilation", "blockSize")
SIZES = {"FLOAT32": 4, "FLOAT16": 2, "INT32": 4, "UINT8": 1, "INT64": 8, "INT8": 1, "BOOL": 1}
# A tensor of the largest detector at 2048 pixels takes a fifth of it.
LARGEST_TENSOR = 2**31
LONGEST_SIDE = 2**24


def check_graph(path: Path, content: Any, schema: Any) -> None:
    """Raise `InputError` where the graph is none that Flyweight writes.

    Args:
        path: of the file.
        content: the file's `ModelT`.
        schema: of the flatbuffer (`ai_edge_litert.schema_py_generated`).
    """
    if len(content.subgraphs) != 1:
        raise _refused(path, "it has more than one graph")
    graph, buffers = content.subgraphs[0], content.buffers
    kinds = _names(schema.TensorType)
    for tensor in graph.tensors:
        if problem := _tensor_problem(tensor, kinds.get(tensor.type, ""), buffers):
            raise _refused(path, problem)
    made = {i for i, each in enumerate(graph.tensors) if _data(each, buffers) is not None}
    _check_made(path, graph.inputs, made, tensors=len(graph.tensors))
    made.update(graph.inputs)
    names = _names(schema.BuiltinOperator)
    codes = [
        names.get(max(each.builtinCode, each.deprecatedBuiltinCode), "")
        for each in content.operatorCodes
    ]
    for operator in graph.operators:
        if not 0 <= operator.opcodeIndex < len(codes):
            raise _refused(path, "an operator has no code")
        kind = codes[operator.opcodeIndex]
        _check_operator(path, operator, kind, made=made, tensors=len(graph.tensors))
        made.update(operator.outputs)
    _check_read(path, graph.outputs, made)


def _check_operator(path: Path, operator: Any, kind: str, *, made: set[int], tensors: int) -> None:
    """What it reads is there, what it makes is not yet, and its options can be computed with."""
    if kind not in ARITY:
        raise _refused(path, f"the operator {kind or 'without a name'} is none of a detector's")
    inputs, outputs = list(operator.inputs), list(operator.outputs)
    least, most = ARITY[kind]
    if not least <= len(inputs) <= most or len(outputs) != 1:
        raise _refused(path, f"{kind} has {len(inputs)} inputs and {len(outputs)} outputs")
    if kind in OPTIONAL_BIAS and len(inputs) > least and inputs[-1] == -1:
        inputs.pop()
    _check_read(path, inputs, made)
    _check_made(path, outputs, made, tensors=tensors)
    for name, value in vars(operator.builtinOptions or object).items():
        if name.startswith(DIVISORS) and not 0 < value <= LONGEST_SIDE:
            raise _refused(path, f"{kind} has a {name} of {value}")


def _check_read(path: Path, indices: Any, made: set[int]) -> None:
    if indices is None or not made.issuperset(indices):
        raise _refused(path, "an operator reads what is not there")


def _check_made(path: Path, indices: Any, made: set[int], *, tensors: int) -> None:
    if indices is None or any(not 0 <= each < tensors or each in made for each in indices):
        raise _refused(path, "an operator writes where it must not")


def _tensor_problem(tensor: Any, kind: str, buffers: Any) -> str:
    """What is wrong with a tensor; empty where nothing is."""
    if kind not in SIZES:
        return f"a tensor is of type {kind or tensor.type}"
    shape = [] if tensor.shape is None else [int(side) for side in tensor.shape]
    size = math.prod(shape) * SIZES[kind]
    if any(not 0 < side <= LONGEST_SIDE for side in shape) or size > LARGEST_TENSOR:
        return f"a tensor has the shape {shape}"
    data = _data(tensor, buffers)
    if not shape and data is None:
        return "a tensor has no shape"
    if data is not None and len(data) != size:
        return "a constant has not the size of its shape"
    return _quantisation_problem(tensor.quantization, shape)


def _quantisation_problem(quantisation: Any, shape: list[int]) -> str:
    """One scale, or one for each slice along a dimension, each with its zero point."""
    if quantisation is None or quantisation.scale is None or not len(quantisation.scale):
        return ""
    scales, zeros = np.asarray(quantisation.scale), quantisation.zeroPoint
    dimension = quantisation.quantizedDimension
    slices = shape[dimension] if 0 <= dimension < len(shape) else 1
    if len(scales) not in (1, slices) or zeros is None or len(zeros) != len(scales):
        return "a tensor's scales do not fit its shape"
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        return "a tensor's scales are no numbers to divide by"
    return ""


def _data(tensor: Any, buffers: Any) -> Any:
    """The bytes of a constant; None of what is computed."""
    data = buffers[tensor.buffer].data
    return data if data is not None and len(data) else None


def _names(enumeration: Any) -> dict[int, str]:
    return {number: name for name, number in vars(enumeration).items() if name.isupper()}


def _refused(path: Path, problem: str) -> InputError:
    return InputError(
        f"the file's graph is none that can be run: {problem}",
        where=path,
        fix="export it again with `flyweight export`",
    )
