"""int8 for ONNX Runtime: QuantizeLinear and DequantizeLinear around convolutions, linear layers.

Activations are uint8 with a scale and zero point per tensor, weights int8 with a scale per output
channel (Krishnamoorthi 2018, https://arxiv.org/abs/1806.08342, sections 3.1 and 3.2). Decoding and
softmax stay in float.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from flyweight.compression.onnx_layers import LAYER_OPERATORS
from flyweight.compression.quiet import quiet
from flyweight.core.errors import InputError

# N images, H x W pixels of the input, A anchors, C classes

Batches = Iterable[npt.NDArray[np.uint8]]
Ranges = dict[str, tuple[float, float]]

# Layers, and what ONNX Runtime runs in int8 beside them without leaving int8 in between.
QUANTISED_OPERATORS = (*LAYER_OPERATORS, "Relu", "Clip", "Add")


def quantise_onnx(
    model: onnx.ModelProto,
    ranges: Ranges,
    *,
    keep_float: Sequence[str] = (),
    only: Sequence[str] | None = None,
    reduce_range: bool = True,
) -> onnx.ModelProto:
    """The int8 form of an fp32 graph; its metadata stays.

    Args:
        model: of `flyweight.export.onnx.to_onnx`; stays as it is.
        ranges: of `calibrate`; a linear layer of whose tensors there is none stays in float.
        keep_float: names of layers that stay in float (see `mixed_precision`).
        only: the nodes to quantise; all that int8 is for by default.
        reduce_range: weights in 7 bits. Without it a CPU that lacks VNNI saturates when it adds
            two products of uint8 and int8 in 16 bits, and the file is right on some CPUs only.
    """
    tensors = {
        name: (np.array(low, np.float32), np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    kept = {*keep_float, *_behind(model, keep_float)}
    kept |= _linear_without(model, ranges)
    nodes = [name for name in only or quantised_nodes(model) if name not in kept]
    result = onnx.ModelProto()
    result.CopyFrom(model)
    layers = {node.name for node in model.graph.node if node.op_type in LAYER_OPERATORS}
    if not layers.intersection(nodes):
        # The quantiser would take an empty list for all.
        return result
    with quiet():
        quantiser = QDQQuantizer(
            result,
            per_channel=True,
            reduce_range=reduce_range,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, tensors),
            nodes_to_quantize=nodes,
            nodes_to_exclude=sorted(kept),
            op_types_to_quantize=list(QUANTISED_OPERATORS),
            extra_options={},
        )
        quantiser.quantize_model()
        quantiser.model.topological_sort()
    quantised: onnx.ModelProto = quantiser.model.model
    # The quantiser signs its work there.
    del quantised.metadata_props[:]
    quantised.metadata_props.extend(model.metadata_props)
    quantised.producer_name = model.producer_name
    return quantised


def quantised_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that int8 is for: from the first convolution to the last ones.

    What no convolution follows is decoding: cheap, and its numbers are pixels. What comes before
    the first is the normalisation of the input. Linear layers come after the proposals are decoded:
    of what leads to them only the activations between them are taken.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    wanted: set[str] = set()
    linear: set[str] = set()
    chosen = []
    for node in reversed(model.graph.node):
        is_linear = node.op_type == "Gemm" and node.input[1] in weights
        if is_linear or (node.op_type in ("Relu", "Clip") and linear.intersection(node.output)):
            linear.add(node.input[0])
            chosen.append(node)
        elif node.op_type == "Conv" or any(name in wanted for name in node.output):
            wanted.update(node.input)
            if node.op_type in QUANTISED_OPERATORS:
                chosen.append(node)
    chosen.reverse()
    first = next((i for i, node in enumerate(chosen) if node.op_type == "Conv"), len(chosen))
    return [node.name for node in chosen[first:]]


def calibrate(model: onnx.ModelProto, batches: Batches, *, threads: int = 0) -> Ranges:
    """The lowest and highest value of every tensor around a convolution, mean over the pictures.

    The mean of each picture's extremes, since the one rare spike that sets the extremes of all
    would take steps from every other value.

    Args:
        model: the fp32 graph.
        batches: uint8 `[N, H, W, 3]` inputs; some 200 pictures are enough.
        threads: of ONNX Runtime; 0 leaves the number to it.
    """
    names = _tensors_to_watch(model)
    session = open_graph(model, names, threads)
    lows, highs = np.zeros(len(names)), np.zeros(len(names))
    seen = 0
    for image in single_images(batches):
        values = session.run(names, {"images": image})
        lows += [value.min() for value in values]
        highs += [value.max() for value in values]
        seen += 1
    if seen == 0:
        raise InputError("no pictures to calibrate on", fix="give a data set with images")
    return {
        name: (float(low), float(high))
        for name, low, high in zip(names, lows / seen, highs / seen, strict=True)
    }


def single_images(batches: Batches) -> Iterator[npt.NDArray[np.uint8]]:
    """Each picture of `batches [N, H, W, 3]` as `[1, H, W, 3]`, which every file takes."""
    for batch in batches:
        for index in range(len(batch)):
            yield batch[index : index + 1]


def _linear_without(model: onnx.ModelProto, ranges: Ranges) -> set[str]:
    """Linear layers whose ranges nobody has measured: training for int8 covers convolutions."""
    return {
        node.name
        for node in model.graph.node
        if node.op_type == "Gemm" and not {node.input[0], node.output[0]} <= ranges.keys()
    }


def _behind(model: onnx.ModelProto, convolutions: Sequence[str]) -> list[str]:
    """Names of the activations and residual additions that these convolutions go into.

    Quantised, an addition would give the convolution's output the range that it is to escape.
    """
    tensors = {out for node in model.graph.node if node.name in convolutions for out in node.output}
    found = []
    for node in model.graph.node:
        if node.op_type in ("Relu", "Clip", "Add") and tensors.intersection(node.input):
            found.append(node.name)
            if node.op_type != "Add":
                tensors.update(node.output)
    return found


def _tensors_to_watch(model: onnx.ModelProto) -> list[str]:
    inside = set(quantised_nodes(model))
    constants = {tensor.name for tensor in model.graph.initializer}
    names: dict[str, None] = {}
    for node in model.graph.node:
        if node.name in inside:
            inputs = node.input if node.op_type == "Add" else node.input[:1]
            names.update(dict.fromkeys([*inputs, *node.output]))
    return [name for name in names if name not in constants]


def open_graph(
    model: onnx.ModelProto, extra_outputs: Sequence[str] = (), threads: int = 0
) -> onnxruntime.InferenceSession:
    """A session of `model` that gives `extra_outputs` too, tensors between its nodes."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    present = {output.name for output in watched.graph.output}
    for name in extra_outputs:
        if name not in present:
            watched.graph.output.add(name=name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
