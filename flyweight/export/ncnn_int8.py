"""int8 convolutions for ncnn, from the ranges that are measured on the ONNX graph.

What ncnn's own tools do (`ncnn2table` and `ncnn2int8`, which the Python packages lack): weights in
int8 with a scale per output channel, inputs with one scale per tensor, both symmetric; and where
one convolution feeds nothing but another, int8 goes from one to the next. Decoding stays in float.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from flyweight.compression.onnx_layers import Layer, layers_of, tensor_shapes
from flyweight.compression.quantise_onnx import Ranges
from flyweight.core.errors import InputError
from flyweight.runtime.ncnn_graph import NcnnLayer
from flyweight.runtime.ncnn_shapes import check_shapes
from flyweight.runtime.ncnn_weights import CONVOLUTIONS, REQUANTISED, NcnnModel, Weights

# The largest int8 on either side.
STEPS = 127
# ncnn's Winograd form of a 3x3 convolution adds weights up in int8: they may have 6 bits.
WINOGRAD_STEPS = 31
# `int8_scale_term`: scales of every output channel, of every group.
SCALES_OF = {"Convolution": 2, "ConvolutionDepthWise": 1}
# Options of a convolution.
_GROUPS, _SCALE_TERM = 7, 8


def quantise_ncnn(
    model: NcnnModel, graph: onnx.ModelProto, ranges: Ranges, *, keep_float: Sequence[str] = ()
) -> NcnnModel:
    """The int8 form of an fp32 model.

    Args:
        model: of `flyweight.export.ncnn.to_ncnn`; it stays as it is.
        graph: of the same detector, by `flyweight.export.onnx.to_onnx`.
        ranges: of `flyweight.compression.quantise_onnx.calibrate` on that graph.
        keep_float: names of its convolutions that stay in float.

    Raises:
        InputError: model and graph are not of one detector.
    """
    twins = onnx_twins(model, graph)
    scales = {
        at: _scale(np.abs(ranges[twin.input]).max())
        for at, twin in twins.items()
        if twin.input in ranges and twin.node not in keep_float
    }
    following = _following(model)
    layers, weights = list(model.layers), list(model.weights)
    for at, scale in scales.items():
        output_scale = scales.get(following.get(at, -1))
        layers[at], weights[at] = _quantised(layers[at], weights[at], scale, output_scale)
    return NcnnModel(tuple(layers), tuple(weights))


def onnx_twins(model: NcnnModel, graph: onnx.ModelProto) -> dict[int, Layer]:
    """Of every convolution of `model`, by its place in it, the one in `graph`.

    The converters name and order layers each in their way, but weights are the same numbers. A
    head that serves every level is told by the size of its output.

    Raises:
        InputError: one has no twin.
    """
    shapes = tensor_shapes(graph)
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    twins: dict[object, list[Layer]] = {}
    for twin in layers_of(graph):
        weight = numpy_helper.to_array(stored[twin.weight])
        twins.setdefault((_digest(weight), shapes[twin.sums][2:]), []).append(twin)
    blobs = check_shapes(model.layers, model.weights)
    found = {}
    for at, (layer, arrays) in enumerate(zip(model.layers, model.weights, strict=True)):
        if layer.kind in CONVOLUTIONS:
            key = (_digest(arrays[0]), blobs[layer.outputs[0]].shape[1:])
            if not twins.get(key):
                raise InputError(f"convolution {layer.name} of ncnn is not in the ONNX graph")
            found[at] = twins[key].pop(0)
    return found


def _digest(weight: npt.NDArray[np.float32]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(weight, "<f4").tobytes()).digest()


def _following(model: NcnnModel) -> dict[int, int]:
    """Of every layer whose only reader is one other layer, the place of that."""
    maker = {layer.outputs[0]: at for at, layer in enumerate(model.layers)}
    return {
        maker[layer.inputs[0]]: at
        for at, layer in enumerate(model.layers)
        if layer.kind in CONVOLUTIONS and layer.inputs[0] in maker
    }


def _scale(largest: float, steps: int = STEPS) -> float:
    """Steps a unit; 1 where there is nothing to be told apart."""
    return steps / float(largest) if largest > 0 else 1.0


def _quantised(
    layer: NcnnLayer, arrays: Weights, input_scale: float, output_scale: float | None
) -> tuple[NcnnLayer, Weights]:
    """A convolution in int8; with `output_scale` what it gives is int8 too."""
    groups = layer.integer(_GROUPS, 1) if layer.kind == "ConvolutionDepthWise" else None
    rows = arrays[0].reshape(groups or layer.integer(0), -1)
    steps = WINOGRAD_STEPS if groups is None and _is_winograd(layer) else STEPS
    scales = np.array([_scale(largest, steps) for largest in np.abs(rows).max(axis=1)], "<f4")
    rounded = np.rint(rows * scales[:, None]).clip(-STEPS, STEPS).astype(np.int8)
    ends = [input_scale] if output_scale is None else [input_scale, output_scale]
    single = (np.array([scale], "<f4") for scale in ends)
    term = SCALES_OF[layer.kind] + (0 if output_scale is None else REQUANTISED)
    options = {**layer.options, _SCALE_TERM: str(term)}
    return replace(layer, options=options), (rounded.ravel(), *arrays[1:], scales, *single)


def _is_winograd(layer: NcnnLayer) -> bool:
    """3x3 at stride 1, not dilated."""
    sides = [(layer.integer(key), layer.integer(key + 10, layer.integer(key))) for key in (1, 2, 3)]
    return sides == [(3, 3), (1, 1), (1, 1)]
