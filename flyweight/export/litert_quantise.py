"""Precisions of a .tflite model: weights in fp16 or int8, or all of it in int8 (AI Edge Quantizer).

int8 is symmetric per output channel for weights and asymmetric per tensor for activations, as in
LiteRT's 8-bit quantisation specification
(https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from flyweight.compression.onnx_layers import layers_of
from flyweight.compression.quiet import quiet
from flyweight.core.errors import InputError
from flyweight.export.int8 import Calibration
from flyweight.runtime.litert_file import schema, unpack
from flyweight.runtime.session import available_cores

try:
    from ai_edge_quantizer import qtyping, quantizer
except ImportError as error:
    raise InputError(
        "the quantiser of LiteRT is not installed",
        fix="make litert, or pip install ai-edge-quantizer",
    ) from error

# O output channels, I input channels, H x W cells

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
WEIGHTED = (*CONVOLUTIONS, "FULLY_CONNECTED", "CONV_2D_TRANSPOSE")
# What int8 is for. Leaky ReLU and Mish are missing for want of the quantiser, L2 since an int8 file
# has one fixed scale for it.
QUANTISED_OPERATORS = (
    *("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MUL", "MEAN", "PAD", "CONCATENATION", "RELU"),
    *("HARD_SWISH", "LOGISTIC", "MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE", "TRANSPOSE"),
    *("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"),
)
# The root of GroupNorm, and the exponential and logarithm of Mish: a sum or mean beside them in 256
# steps would be worth nothing.
FLOAT_NEIGHBOURS = ("RSQRT", "EXP", "LOG")
# The weights of a convolution as bytes of [O, H, W, I], and input pixels a cell of its output.
Fingerprint = tuple[bytes, int]


def store_litert_weights(
    model: bytes, form: str, *, graph: onnx.ModelProto | None = None, keep_float: Sequence[str] = ()
) -> bytes:
    """A model whose layers keep their weights in `fp16` or `int8-weights`, arithmetic in float.

    Args:
        model: of `flyweight.export.litert.to_litert`.
        form: of the weights; biases stay.
        graph: the ONNX graph that `keep_float` names convolutions of.
        keep_float: convolutions whose weights stay in fp32.
    """
    worker = quantizer.Quantizer(bytearray(model))
    network = _Network(model)
    kept = network.convolutions_of(graph, keep_float) if graph is not None else set()
    scope = f"^(?!{_scope([network.names[index] for index in kept])}$)" if kept else ".*"
    for name in WEIGHTED:
        operation = qtyping.TFLOperationName(name)
        if form == "int8-weights":
            worker.add_weight_only_config(scope, operation, num_bits=8)
        else:
            worker.update_quantization_recipe(
                scope,
                operation,
                qtyping.OpQuantizationConfig(
                    weight_tensor_config=qtyping.TensorQuantizationConfig(
                        num_bits=16, dtype=qtyping.TensorDataType.FLOAT
                    ),
                    compute_precision=qtyping.ComputePrecision.FLOAT,
                    explicit_dequantize=True,
                ),
                algorithm_key="float_casting",
            )
    return _quantised(worker, {})


def quantise_litert(
    model: bytes, calibration: Calibration, *, keep_float: Sequence[str] = ()
) -> bytes:
    """The int8 form of an fp32 model: all between the first and the last convolutions.

    Args:
        model: of `flyweight.export.litert.to_litert`.
        calibration: the graph that `keep_float` names, and the pictures.
        keep_float: convolutions of the ONNX graph that stay in float.
    """
    names = quantised_outputs(model, calibration.graph, keep_float)
    if not names:
        return model
    worker = quantizer.Quantizer(bytearray(model))
    worker.add_static_config(
        f"^{_scope(names)}$",
        qtyping.TFLOperationName.ALL_SUPPORTED,
        activation_num_bits=8,
        weight_num_bits=8,
    )
    with quiet():
        ranges = worker.calibrate(
            {"serving_default": _signature_inputs(calibration)}, num_threads=available_cores()
        )
    return _quantised(worker, ranges)


def _scope(names: Sequence[str]) -> str:
    """A pattern: the quantiser knows an operator by its outputs' names, a ";" behind each."""
    return "(" + "|".join(re.escape(f"{name};") for name in names) + ")"


def _signature_inputs(calibration: Calibration) -> list[dict[str, npt.NDArray[np.uint8]]]:
    found = [{"images": batch} for batch in calibration.batches()]
    if not found:
        raise InputError("no pictures to calibrate on", fix="give a data set with images")
    return found


def quantised_outputs(
    model: bytes, graph: onnx.ModelProto, keep_float: Sequence[str] = ()
) -> list[str]:
    """Names of the tensors that the operators which int8 is for make.

    From the first convolution to the last ones. What no convolution follows is decoding: cheap, and
    its numbers are pixels. What comes before the first is the normalisation of the input. GroupNorm
    and Mish stay in float whole, with all that is around them.
    """
    network = _Network(model)
    operators = network.operators
    wanted: set[int] = set()
    chosen = []
    for operator in reversed(operators):
        if operator.kind in CONVOLUTIONS or wanted.intersection(operator.outputs):
            wanted.update(operator.inputs)
            chosen.append(operator)
    chosen.reverse()
    first = next((i for i, each in enumerate(chosen) if each.kind in CONVOLUTIONS), len(chosen))
    kept = network.convolutions_of(graph, keep_float)
    kept |= network.reading_only(kept) | network.around(FLOAT_NEIGHBOURS)
    return [
        network.names[each.outputs[0]]
        for each in chosen[first:]
        if each.kind in QUANTISED_OPERATORS and each.outputs[0] not in kept
    ]


@dataclass(frozen=True)
class _Operator:
    """An operator with the indices of its tensors; constants are no inputs."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    weight: int


class _Network:
    """The operators of a flatbuffer; each is known by the index of its first output."""

    def __init__(self, model: bytes) -> None:
        self._content = unpack(model)
        graph = self._content.subgraphs[0]
        self._tensors = graph.tensors
        self.names = [tensor.name.decode() for tensor in graph.tensors]
        self.height = int(graph.tensors[graph.inputs[0]].shape[1])
        made = {index for each in graph.operators for index in each.outputs} | {*graph.inputs}
        self.operators = [
            _Operator(
                kind=_kind(self._content.operatorCodes[each.opcodeIndex]),
                inputs=tuple(index for index in each.inputs if index in made),
                outputs=tuple(each.outputs),
                weight=int(each.inputs[1]) if len(each.inputs) > 1 else -1,
            )
            for each in graph.operators
        ]

    def convolutions_of(self, graph: onnx.ModelProto, nodes: Sequence[str]) -> set[int]:
        """The convolutions that are `nodes` of the ONNX graph: of the same weights and stride."""
        if not nodes:
            return set()
        weights = {tensor.name: tensor for tensor in graph.graph.initializer}
        wanted = {
            _fingerprint(
                numpy_helper.to_array(weights[layer.weight]).transpose(0, 2, 3, 1), layer.stride
            )
            for layer in layers_of(graph)
            if layer.node in nodes
        }
        found = {
            each.outputs[0]: self._fingerprint(each)
            for each in self.operators
            if each.kind in CONVOLUTIONS
        }
        if missing := wanted - {*found.values()}:
            raise InputError(
                f"{len(missing)} of the convolutions to keep in float are not in LiteRT's graph",
                where="int8",
            )
        return {index for index, mark in found.items() if mark in wanted}

    def reading_only(self, outputs: set[int]) -> set[int]:
        """What reads nothing but `outputs` and each other: activations, sums of the branches."""
        inside = set(outputs)
        for each in self.operators:
            if each.kind not in CONVOLUTIONS and each.inputs and inside.issuperset(each.inputs):
                inside.update(each.outputs)
        return inside - outputs

    def around(self, kinds: Sequence[str]) -> set[int]:
        """All that is connected with operators of `kinds` without a convolution in between."""
        inside = {index for each in self.operators if each.kind in kinds for index in each.outputs}
        size = -1
        while size != len(inside):
            size = len(inside)
            for each in self.operators:
                touched = inside.intersection((*each.inputs, *each.outputs))
                if touched and each.kind not in CONVOLUTIONS:
                    inside.update(each.inputs, each.outputs)
        made = {each.outputs[0] for each in self.operators if each.kind not in CONVOLUTIONS}
        return inside & made

    def _fingerprint(self, operator: _Operator) -> Fingerprint:
        tensor = self._tensors[operator.weight]
        data = np.frombuffer(self._content.buffers[tensor.buffer].data, np.float32)
        values = data.reshape(tensor.shape)
        if operator.kind == "DEPTHWISE_CONV_2D":
            values = values.transpose(3, 1, 2, 0)
        out = self._tensors[operator.outputs[0]].shape
        return _fingerprint(values, max(1, round(self.height / max(int(out[1]), 1))))


def _fingerprint(weights: npt.NDArray[np.float32], stride: int) -> Fingerprint:
    return np.ascontiguousarray(weights).tobytes(), stride


def _kind(code: Any) -> str:
    return _KINDS[max(code.builtinCode, code.deprecatedBuiltinCode)]


_KINDS = {number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()}


def _quantised(worker: Any, ranges: Any) -> bytes:
    with quiet():
        result = worker.quantize(ranges, enable_progress_report=False)
    return bytes(result.quantized_model)
