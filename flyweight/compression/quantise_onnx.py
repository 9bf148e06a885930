"""int8 for ONNX Runtime: QuantizeLinear and DequantizeLinear around the convolutions.

Activations are uint8 with a scale and zero point per tensor, weights int8 with a scale per output
channel (Krishnamoorthi 2018, https://arxiv.org/abs/1806.08342, sections 3.1 and 3.2). Decoding and
softmax stay in float.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from flyweight.compression.quiet import quiet
from flyweight.core.errors import InputError

# N images, H x W pixels of the input, A anchors, C classes

Batches = Iterable[npt.NDArray[np.uint8]]
Ranges = dict[str, tuple[float, float]]

# A convolution, and what ONNX Runtime runs in int8 beside it without leaving int8 in between.
QUANTISED_OPERATORS = ("Conv", "Relu", "Clip", "Add")


@dataclass(frozen=True)
class Sensitivity:
    """What quantising one convolution alone does to the network's output.

    Attributes:
        node: the convolution's name.
        score_error: root mean square over anchors and classes, relative to the scores' own.
        box_error: root mean square over the boxes that matter, input pixels.
    """

    node: str
    score_error: float
    box_error: float

    @property
    def total(self) -> float:
        """One figure to sort by: a pixel weighs as much as a hundredth of the scores."""
        return self.score_error + 0.01 * self.box_error


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
        ranges: of `calibrate`.
        keep_float: names of convolutions that stay in float (see `find_sensitive`).
        only: the nodes to quantise; all that int8 is for by default.
        reduce_range: weights in 7 bits. Without it a CPU that lacks VNNI saturates when it adds
            two products of uint8 and int8 in 16 bits, and the file is right on some CPUs only.
    """
    tensors = {
        name: (np.array(low, np.float32), np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    kept = {*keep_float, *_behind(model, keep_float)}
    nodes = [name for name in only or quantised_nodes(model) if name not in kept]
    result = onnx.ModelProto()
    result.CopyFrom(model)
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
    the first is the normalisation of the input.
    """
    wanted: set[str] = set()
    chosen = []
    for node in reversed(model.graph.node):
        if node.op_type == "Conv" or any(name in wanted for name in node.output):
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
    session = _open(model, names, threads)
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


def find_sensitive(
    model: onnx.ModelProto,
    ranges: Ranges,
    batches: Batches,
    *,
    threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Sensitivity]:
    """Every convolution with what quantising it alone costs, the worst first.

    Args:
        model: the fp32 graph.
        ranges: of `calibrate`.
        batches: uint8 `[N, H, W, 3]`; a few pictures tell enough.
        progress: called with (convolutions done, convolutions).
    """
    images = list(single_images(batches))
    reference = _outputs(model, images, threads)
    inside = quantised_nodes(model)
    following = _activations(model)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    found = []
    for done, name in enumerate(convolutions, 1):
        alone = [name, *(each for each in following.get(name, ()) if each in inside)]
        outputs = _outputs(quantise_onnx(model, ranges, only=alone), images, threads)
        found.append(_sensitivity(name, reference, outputs))
        if progress is not None:
            progress(done, len(convolutions))
    return sorted(found, key=lambda each: each.total, reverse=True)


def single_images(batches: Batches) -> Iterator[npt.NDArray[np.uint8]]:
    """Each picture of `batches [N, H, W, 3]` as `[1, H, W, 3]`, which every file takes."""
    for batch in batches:
        for index in range(len(batch)):
            yield batch[index : index + 1]


def _sensitivity(
    name: str,
    reference: Sequence[npt.NDArray[np.float32]],
    outputs: Sequence[npt.NDArray[np.float32]],
) -> Sensitivity:
    boxes, scores = reference
    found_boxes, found_scores = outputs
    signal = float(np.sqrt(np.mean(np.square(scores, dtype=np.float64)))) + 1e-12
    noise = float(np.sqrt(np.mean(np.square(found_scores - scores, dtype=np.float64))))
    # Boxes weigh by their best score: where there is nothing, any box will do.
    weights = scores.max(axis=-1).astype(np.float64) ** 2
    squares = np.square(found_boxes - boxes, dtype=np.float64).mean(axis=-1)
    box_error = float(np.sqrt((squares * weights).sum() / (weights.sum() + 1e-12)))
    return Sensitivity(name, noise / signal, box_error)


def _behind(model: onnx.ModelProto, convolutions: Sequence[str]) -> list[str]:
    """Names of the activations and residual additions that these convolutions go into.

    Quantised, an addition would give the convolution's output the range that it is to escape.
    """
    tensors = {out for node in model.graph.node if node.name in convolutions for out in node.output}
    found = []
    for node in model.graph.node:
        if node.op_type in QUANTISED_OPERATORS[1:] and tensors.intersection(node.input):
            found.append(node.name)
            if node.op_type != "Add":
                tensors.update(node.output)
    return found


def _activations(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Names of the Relu or Clip behind each convolution, which int8 merges into it."""
    by_output = {node.output[0]: node.name for node in model.graph.node if node.op_type == "Conv"}
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type in ("Relu", "Clip") and node.input[0] in by_output:
            found.setdefault(by_output[node.input[0]], []).append(node.name)
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


def _outputs(
    model: onnx.ModelProto, images: Sequence[npt.NDArray[np.uint8]], threads: int
) -> list[npt.NDArray[np.float32]]:
    """`boxes [N, A, 4]` and `scores [N, A, C]` of all images."""
    session = _open(model, (), threads)
    runs = [session.run(["boxes", "scores"], {"images": image}) for image in images]
    return [np.concatenate(parts) for parts in zip(*runs, strict=True)]


def _open(
    model: onnx.ModelProto, extra_outputs: Sequence[str], threads: int
) -> onnxruntime.InferenceSession:
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
