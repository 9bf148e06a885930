"""How much of a tensor int8 keeps, and what in the tensor's values is to blame.

One scale serves a whole tensor of activations: 255 steps from its lowest to its highest value.
Where a few values are far out, the steps are too coarse for all others (Krishnamoorthi 2018,
section 3.1; outlier channels: Nagel et al. 2021, https://arxiv.org/abs/2106.08295, section 4.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from flyweight.compression.quantise_onnx import Batches, Ranges, open_graph, single_images
from flyweight.compression.sensitivity import decibels

# C channels, O output channels

STEPS = 255
# 7 bits, see `quantise_onnx`
WEIGHT_STEPS = 64
# A channel is far out where the tensor's range is that many times its typical channel's: 3 bits.
OUTLIER_RATIO = 8.0
# A tail is long where the last thousandth of the values takes more than half of the range.
TAIL_RATIO = 2.0
TAIL_PERCENT = 99.9
# Ranges are means over pictures: what is cut off is to blame where it is half of the error.
CLIPPED_SHARE = 0.5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TensorNoise:
    """A tensor of a network and what int8 leaves of it.

    Attributes:
        tensor: its name in the graph.
        role: `input`, `weights` or `output` of a layer.
        low, high: the calibrated range; of weights the largest over all channels.
        sqnr_db: of its own values.
        scores_sqnr_db: of the network's scores with this tensor alone rounded.
        causes: what in its values is to blame, in words; empty where nothing stands out.
    """

    tensor: str
    role: str
    low: float
    high: float
    sqnr_db: float
    scores_sqnr_db: float = float("nan")
    causes: tuple[str, ...] = ()


@dataclass
class _Sums:
    """Of one tensor over the pictures; per channel where it says so."""

    channels: int
    signal: float = 0.0
    error: float = 0.0
    clipped: float = 0.0
    tail: float = 0.0
    pictures: int = 0
    lows: Floats = field(default_factory=lambda: np.empty(0))
    highs: Floats = field(default_factory=lambda: np.empty(0))


def activation_noise(
    model: onnx.ModelProto, ranges: Ranges, batches: Batches, tensors: Sequence[str]
) -> dict[str, TensorNoise]:
    """What int8 leaves of each of `tensors`, `[1, C, H, W]` or `[R, C]`, by its calibrated range.

    Args:
        model: the fp32 graph.
        ranges: of `calibrate`; tensors without one are left out.
        batches: uint8 `[N, H, W, 3]`; a few pictures tell enough.
        tensors: names.
    """
    names = [name for name in dict.fromkeys(tensors) if name in ranges]
    session = open_graph(model, names)
    sums: dict[str, _Sums] = {}
    for image in single_images(batches):
        for name, values in zip(names, session.run(names, {"images": image}), strict=True):
            channels = values.astype(np.float64).swapaxes(0, 1)
            by_channel = channels.reshape(len(channels), -1)
            _add(sums.setdefault(name, _Sums(len(by_channel))), by_channel, ranges[name])
    return {name: _activation(name, found, ranges[name]) for name, found in sums.items()}


def weight_noise(model: onnx.ModelProto, tensors: Sequence[str]) -> dict[str, TensorNoise]:
    """What 7 bits with a scale per output channel leave of `tensors`, weights `[O, ...]`."""
    wanted = set(tensors)
    found = {}
    for tensor in model.graph.initializer:
        if tensor.name not in wanted:
            continue
        rows = numpy_helper.to_array(tensor).astype(np.float64)
        rows = rows.reshape(len(rows), -1)
        rows = rows[np.abs(rows).max(axis=1) > 0]
        error = rounded_weights(rows) - rows
        causes = []
        # A channel in which one weight rules leaves few steps to the others.
        crest = float(np.median(np.abs(rows).max(axis=1) / np.sqrt(np.square(rows).mean(axis=1))))
        if crest > OUTLIER_RATIO:
            causes.append(f"one weight of a channel is {crest:.0f} times the others'")
        found[tensor.name] = TensorNoise(
            tensor.name,
            "weights",
            float(rows.min()),
            float(rows.max()),
            decibels(float(np.square(rows).sum()), float(np.square(error).sum())),
            causes=tuple(causes),
        )
    return found


def rounded_weights(weights: Floats) -> Floats:
    """`weights [O, ...]` as int8 keeps them: 7 bits, symmetric, a scale per output channel."""
    largest = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    steps = np.where(largest > 0, largest / WEIGHT_STEPS, 1)
    return np.asarray(np.rint(weights / steps) * steps)


def with_rounded(model: onnx.ModelProto, ranges: Ranges, tensor: str) -> onnx.ModelProto:
    """A copy of an fp32 graph with one tensor, weights or activation, rounded as in int8."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for constant in result.graph.initializer:
        if constant.name == tensor:
            values = rounded_weights(numpy_helper.to_array(constant).astype(np.float64))
            constant.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor))
            return result
    low, high = _with_zero(ranges[tensor])
    step = max(high - low, 1e-12) / STEPS
    scale, zero, short, long = (f"rounded/{name}" for name in ("scale", "zero", "short", "long"))
    result.graph.initializer.append(numpy_helper.from_array(np.array(step, np.float32), scale))
    zero_point = np.array(np.rint(-low / step), np.uint8)
    result.graph.initializer.append(numpy_helper.from_array(zero_point, zero))
    for node in result.graph.node:
        for index, name in enumerate(node.input):
            if name == tensor:
                node.input[index] = long
    place = next(
        (index + 1 for index, node in enumerate(result.graph.node) if tensor in node.output), 0
    )
    for index, (kind, source, target) in enumerate(
        (("QuantizeLinear", tensor, short), ("DequantizeLinear", short, long))
    ):
        made = helper.make_node(kind, [source, scale, zero], [target], f"{target}/node")
        result.graph.node.insert(place + index, made)
    return result


def _add(sums: _Sums, values: Floats, bounds: tuple[float, float]) -> None:
    """Count one picture's `values [C, H * W]`."""
    low, high = _with_zero(bounds)
    step = max(high - low, 1e-12) / STEPS
    zero = np.rint(-low / step)
    integers = np.clip(np.rint(values / step) + zero, 0, STEPS)
    squares = np.square((integers - zero) * step - values)
    outside = (values < low - step / 2) | (values > high + step / 2)
    sums.signal += float(np.square(values).sum())
    sums.error += float(squares.sum())
    sums.clipped += float(squares[outside].sum())
    sums.tail += float(np.percentile(np.abs(values), TAIL_PERCENT))
    sums.pictures += 1
    lows, highs = values.min(axis=1), values.max(axis=1)
    sums.lows = lows if not sums.lows.size else np.minimum(sums.lows, lows)
    sums.highs = highs if not sums.highs.size else np.maximum(sums.highs, highs)


def _activation(name: str, sums: _Sums, bounds: tuple[float, float]) -> TensorNoise:
    low, high = bounds
    causes = []
    widths = sums.highs - sums.lows
    typical = float(np.median(widths))
    widest = int(widths.argmax())
    if typical > 0 and high - low > OUTLIER_RATIO * typical:
        causes.append(
            f"channel {widest} spans {sums.lows[widest]:.3g} to {sums.highs[widest]:.3g}, the "
            f"median channel {typical:.3g}: one scale for all leaves that one "
            f"{STEPS * typical / (high - low):.0f} of {STEPS} steps"
        )
    tail = sums.tail / sums.pictures
    extreme = max(abs(low), abs(high))
    if tail > 0 and extreme > TAIL_RATIO * tail:
        causes.append(
            f"a long tail: {TAIL_PERCENT} % of the values lie within {tail:.3g}, the range goes to "
            f"{extreme:.3g}"
        )
    if sums.error > 0 and sums.clipped > CLIPPED_SHARE * sums.error:
        causes.append(
            f"values outside the calibrated range: they reach {sums.lows.min():.3g} to "
            f"{sums.highs.max():.3g}"
        )
    sqnr = decibels(sums.signal, sums.error)
    return TensorNoise(name, "output", low, high, sqnr, causes=tuple(causes))


def _with_zero(bounds: tuple[float, float]) -> tuple[float, float]:
    """A range that zero is in, which paddings need and ONNX Runtime enforces."""
    return min(bounds[0], 0.0), max(bounds[1], 0.0)
