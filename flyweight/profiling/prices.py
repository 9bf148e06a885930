"""What one call of a torch operator costs: multiply-accumulate pairs, and other arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from flyweight.profiling.operation import Geometry

Arguments = Mapping[str, Any]

# The names that differ from torch's own, in which a trailing underscore (in place) is dropped.
KINDS = {
    "addmm": "linear",
    "mm": "matmul",
    "bmm": "matmul",
    "baddbmm": "matmul",
    "cat": "concat",
    "native_batch_norm": "batch_norm",
    "_native_batch_norm_legit_no_training": "batch_norm",
    "cudnn_batch_norm": "batch_norm",
    "native_group_norm": "group_norm",
    "native_layer_norm": "layer_norm",
    "native_channel_shuffle": "channel_shuffle",
    "max_pool2d_with_indices": "max_pool2d",
    "constant_pad_nd": "pad",
    "_softmax": "softmax",
    "clone": "copy",
    "copy": "copy",
    "_to_copy": "copy",
    "new_zeros": "fill",
    "zeros": "fill",
    "new_full": "fill",
    "full": "fill",
    "zeros_like": "fill",
    "linalg_vector_norm": "norm",
}

# Arithmetic for one value of the output. Of an exponential, as of a division, one: what it takes
# longer than an addition is the device's business, and measured.
PER_OUTPUT = {
    "concat": 0,
    "copy": 0,
    "channel_shuffle": 0,
    "fill": 0,
    "pad": 0,
    "scatter": 0,
    "index": 0,
    "gather": 0,
    "relu": 1,
    "relu6": 2,
    "hardtanh": 2,
    "leaky_relu": 2,
    "hardsigmoid": 4,  # + 3, two clamps, / 6
    "hardswish": 5,  # x times it
    "sigmoid": 4,  # negate, exp, + 1, divide
    "silu": 5,
    "mish": 6,  # x * tanh(log(1 + exp(x)))
    "tanh": 1,
    "batch_norm": 2,  # scale and shift
    "softmax": 5,  # maximum, subtract, exp, sum, divide
}
# For one value that is read, where sums go over all of them. Statistics: a sum for the mean,
# difference, square and sum for the variance; then scale and shift.
PER_INPUT = {"sum": 1, "norm": 2, "group_norm": 6, "layer_norm": 6}

# Points that a value of the output is mixed from, along one side.
INTERPOLATION_TAPS = {"nearest": 1, "nearest_exact": 1, "bilinear": 2, "bicubic": 4}


@dataclass(frozen=True)
class Price:
    """What a call is and costs.

    Attributes:
        kind, macs, elementwise, geometry: as in `Operation`.
        taps: of an interpolation, points along a side that a value is mixed from.
    """

    kind: str
    macs: int = 0
    elementwise: int = 0
    geometry: Geometry | None = None
    taps: int = 1


def price(operator: str, arguments: Arguments, output: Tensor) -> Price:
    """The price of a call.

    Args:
        operator: torch's name of it, such as `convolution` or `hardtanh_`.
        arguments: by the names of the operator's schema.
        output: the first tensor that it gives.
    """
    name = operator.removesuffix("_")
    if name in PRICED:
        return PRICED[name](arguments, output)
    if name.startswith(("upsample_", "_upsample_")):
        return _interpolate(name, output)
    kind = KINDS.get(name, name)
    read = next((each for each in arguments.values() if isinstance(each, Tensor)), output)
    if kind in PER_INPUT:
        return Price(kind, elementwise=PER_INPUT[kind] * read.numel())
    return Price(kind, elementwise=PER_OUTPUT.get(kind, 1) * output.numel())


def _convolution(arguments: Arguments, output: Tensor) -> Price:
    weight, source = arguments["weight"], arguments["input"]
    geometry = Geometry(
        kernel_hw=_pair(weight.shape[2:]),
        stride_hw=_pair(arguments["stride"]),
        dilation_hw=_pair(arguments["dilation"]),
        padding_hw=_pair(arguments["padding"]),
        groups=int(arguments["groups"]),
    )
    # A filter's weights meet every place of the output; turned round, every place of the input.
    transposed = bool(arguments["transposed"])
    places = source if transposed else output
    macs = places.numel() * math.prod(weight.shape[1:])
    return Price("conv_transpose2d" if transposed else "conv2d", macs, geometry=geometry)


def _deformable(arguments: Arguments, output: Tensor) -> Price:
    weight, source = arguments["weight"], arguments["input"]
    geometry = Geometry(
        kernel_hw=_pair(weight.shape[2:]),
        stride_hw=(arguments["stride_h"], arguments["stride_w"]),
        dilation_hw=(arguments["dilation_h"], arguments["dilation_w"]),
        padding_hw=(arguments["pad_h"], arguments["pad_w"]),
        groups=int(arguments["groups"]),
    )
    macs = output.numel() * math.prod(weight.shape[1:])
    # Each sampled value is mixed of four; modulation weights it once more.
    points = output.shape[0] * math.prod(output.shape[2:]) * math.prod(geometry.kernel_hw)
    per_point = 8 + bool(arguments.get("use_mask"))
    return Price("deform_conv2d", macs, per_point * points * source.shape[1], geometry)


def _pool(kind: str, arguments: Arguments, output: Tensor) -> Price:
    kernel = _pair(arguments["kernel_size"])
    geometry = Geometry(
        kernel_hw=kernel,
        stride_hw=_pair(arguments.get("stride") or kernel),
        dilation_hw=_pair(arguments.get("dilation", 1)),
        padding_hw=_pair(arguments.get("padding", 0)),
    )
    return Price(kind, elementwise=math.prod(kernel) * output.numel(), geometry=geometry)


def _mean(arguments: Arguments, output: Tensor) -> Price:
    source = arguments["self"]
    of_places = source.dim() == 4 and math.prod(output.shape) == math.prod(source.shape[:2])
    return Price("global_avg_pool" if of_places else "mean", elementwise=source.numel())


def _hardtanh(arguments: Arguments, output: Tensor) -> Price:
    bounds = (arguments.get("min_val"), arguments.get("max_val"))
    return Price("relu6" if bounds == (0, 6) else "hardtanh", elementwise=2 * output.numel())


def _matmul(left: str, kind: str, arguments: Arguments, output: Tensor) -> Price:
    return Price(kind, macs=output.numel() * arguments[left].shape[-1])


def _linear(arguments: Arguments, output: Tensor) -> Price:
    return Price("linear", macs=output.numel() * arguments["input"].shape[-1])


def _interpolate(name: str, output: Tensor) -> Price:
    mode = name.lstrip("_").removeprefix("upsample_").removesuffix("_aa").replace("2d", "")
    taps = INTERPOLATION_TAPS.get(mode, 2)
    # A product and a sum for each point that is mixed in; copying one costs no arithmetic.
    count = 0 if taps == 1 else 2 * taps**2 * output.numel()
    return Price("interpolate", elementwise=count, taps=taps)


def _roi_align(arguments: Arguments, output: Tensor) -> Price:
    samples = max(int(arguments["sampling_ratio"]), 1) ** 2
    return Price("roi_align", elementwise=8 * samples * output.numel())


def _roi_pool(arguments: Arguments, output: Tensor) -> Price:
    # How many cells a region covers depends on the picture; one for each value at least.
    return Price("roi_pool", elementwise=output.numel())


PRICED: dict[str, Callable[[Arguments, Tensor], Price]] = {
    "convolution": _convolution,
    "deform_conv2d": _deformable,
    "max_pool2d_with_indices": lambda given, output: _pool("max_pool2d", given, output),
    "avg_pool2d": lambda given, output: _pool("avg_pool2d", given, output),
    "mean": _mean,
    "_adaptive_avg_pool2d": _mean,
    "hardtanh": _hardtanh,
    "addmm": lambda given, output: _matmul("mat1", "linear", given, output),
    "mm": lambda given, output: _matmul("self", "matmul", given, output),
    "bmm": lambda given, output: _matmul("self", "matmul", given, output),
    "baddbmm": lambda given, output: _matmul("batch1", "matmul", given, output),
    "linear": _linear,
    "roi_align": _roi_align,
    "roi_pool": _roi_pool,
}


def _pair(value: Any) -> tuple[int, int]:
    numbers = [value] if isinstance(value, int) else list(value)
    return int(numbers[0]), int(numbers[-1])
