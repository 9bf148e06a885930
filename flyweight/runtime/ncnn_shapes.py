"""What every blob of an ncnn graph is: found before ncnn runs it, since ncnn does not look.

A layer that is given other channels than its weights are for reads beyond them. Only the kinds and
options of layers that `flyweight export` writes have a rule here; a graph with anything else, or
with blobs that do not fit, is refused. Shapes are numpy's: `(w,)`, `(h, w)`, `(c, h, w)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flyweight.runtime.ncnn_graph import NcnnLayer
from flyweight.runtime.ncnn_weights import REQUANTISED, Weights

# A stranger's file may neither fill the memory nor keep a worker for minutes: the numbers of all
# blobs together, of what one layer copies of its input, and what is done to them.
MAX_CELLS = 2**30
MAX_MULTIPLICATIONS = 2**40
MAX_SIDE = 4096
# ncnn's "whatever remains".
REST = -233


@dataclass(frozen=True)
class Blob:
    """Shape, and whether the numbers are int8 (between two convolutions)."""

    shape: tuple[int, ...]
    int8: bool = False


Blobs = Sequence[Blob]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Rule:
    """Of a kind of layer.

    Attributes:
        infer: from the layer and the shapes of its inputs to those of its outputs.
        numbers, lists: keys of options that it may have.
        inputs: how many, at least and at most.
    """

    infer: Callable[[NcnnLayer, list[Shape]], list[Shape]]
    numbers: tuple[int, ...] = ()
    lists: tuple[int, ...] = ()
    inputs: tuple[int, int] = (1, 1)


def check_shapes(layers: Sequence[NcnnLayer], weights: Sequence[Weights]) -> dict[str, Blob]:
    """Every blob by its name.

    Args:
        layers: of `read_graph`.
        weights: of `read_weights`.

    Raises:
        ValueError: a layer cannot do with its inputs what its options say.
    """
    blobs: dict[str, Blob] = {}
    unread: set[str] = set()
    cells = work = 0
    for layer, arrays in zip(layers, weights, strict=True):
        # A blob that two layers read goes through a `Split` first.
        if len(set(layer.inputs)) != len(layer.inputs) or not unread.issuperset(layer.inputs):
            raise ValueError(f"{layer.name} reads what is not there")
        made = _made(layer, [blobs[name] for name in layer.inputs], arrays)
        if not 0 < len(made) == len(set(layer.outputs)) or blobs.keys() & set(layer.outputs):
            raise ValueError(f"{layer.name} has {len(layer.outputs)} outputs")
        for blob in made:
            if min(blob.shape) < 1:
                raise ValueError(f"{layer.name} makes a blob of {blob.shape}")
            cells += math.prod(blob.shape)
        # Every weight of a convolution meets every cell of a channel of its output.
        work += sum(array.size for array in arrays[:1]) * math.prod(made[0].shape[1:])
        if cells > MAX_CELLS or work > MAX_MULTIPLICATIONS:
            raise ValueError("it would take all memory, or minutes")
        blobs.update(zip(layer.outputs, made, strict=True))
        unread.difference_update(layer.inputs)
        unread.update(layer.outputs)
    return blobs


def _made(layer: NcnnLayer, inputs: Blobs, arrays: Weights) -> list[Blob]:
    """The outputs of a layer."""
    rule = RULES.get(layer.kind)
    if rule is None:
        raise ValueError(f"a layer of kind {layer.kind}")
    fewest, most = rule.inputs
    if not fewest <= len(inputs) <= most:
        raise ValueError(f"{layer.name} has {len(inputs)} inputs")
    for key, value in layer.options.items():
        if key not in (rule.numbers if isinstance(value, str) else rule.lists):
            raise ValueError(f"option {key} of {layer.name}")
    shapes = rule.infer(layer, [blob.shape for blob in inputs])
    if rule.infer is not _convolution:
        _require(not any(blob.int8 for blob in inputs), layer, "is given int8")
        return [Blob(shape) for shape in shapes]
    term = layer.integer(8)
    _require(term != 0 or not inputs[0].int8, layer, "is given int8")
    _require((arrays[0].dtype == np.int8) == (term != 0), layer, "has weights of another type")
    return [Blob(shapes[0], int8=term > REQUANTISED)]


def _require(holds: bool, layer: NcnnLayer, what: str) -> None:
    if not holds:
        raise ValueError(f"{layer.name} {what}")


def _axis(layer: NcnnLayer, axis: int, rank: int) -> int:
    """`axis`, which may count from the end, as an index."""
    _require(-rank <= axis < rank, layer, f"has no axis {axis}")
    return axis % rank


def _sides(layer: NcnnLayer, keys: tuple[int, int], default: int) -> tuple[int, int]:
    """Height and width of an option: what is not given of the height is as of the width."""
    width = layer.integer(keys[0], default)
    height = layer.integer(keys[1], width)
    _require(max(width, height) <= MAX_SIDE, layer, f"has sides of {max(width, height)}")
    return height, width


def _window(
    layer: NcnnLayer, shape: Shape, *, pads: tuple[int, int, int, int], up: bool
) -> tuple[int, int]:
    """Height and width of what a sliding window gives.

    Args:
        layer: with kernel, dilation and stride where convolutions have them.
        shape: `(c, h, w)`.
        pads: keys of left, top, right and bottom.
        up: a last window that is only partly inside counts.
    """
    _require(len(shape) == 3, layer, f"is given {shape}")
    pooling = layer.kind == "Pooling"
    kernel = _sides(layer, (1, 11), 0)
    stride = _sides(layer, (2, 12) if pooling else (3, 13), 1)
    dilation = (1, 1) if pooling else _sides(layer, (2, 12), 1)
    left = layer.integer(pads[0])
    top = layer.integer(pads[1], left)
    padding = ((top, layer.integer(pads[3], top)), (left, layer.integer(pads[2], left)))
    _require(min(*kernel, *stride, *dilation) > 0, layer, "has no window")
    sides, copied = [], shape[0]
    for side, k, s, d, around in zip(shape[1:], kernel, stride, dilation, padding, strict=True):
        reach = d * (k - 1) + 1
        # A window wholly in the padding would be a maximum of nothing.
        _require(min(around) >= 0 and max(around) < max(reach, 2), layer, "is padded too far")
        room = side + sum(around) - reach
        _require(room >= 0, layer, f"has a window larger than {side}")
        sides.append((-(-room // s) if up else room // s) + 1)
        copied *= max(room + reach, k * sides[-1])
    _require(copied <= MAX_CELLS, layer, "would take all memory")
    return sides[0], sides[1]


# How many numbers an activation inside a convolution has: none, ReLU, leaky ReLU, clip, sigmoid,
# mish, h-swish.
_ACTIVATION_NUMBERS = (0, 0, 1, 2, 0, 0, 2)


def _convolution(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    depthwise = layer.kind == "ConvolutionDepthWise"
    groups = layer.integer(7, 1) if depthwise else 1
    outputs, (height, width) = layer.integer(0), _sides(layer, (1, 11), 0)
    made = _window(layer, shapes[0], pads=(4, 14, 15, 16), up=False)
    channels = shapes[0][0]
    whole = groups > 0 and channels % groups == 0 and outputs % groups == 0
    _require(whole and outputs > 0, layer, f"has {groups} groups of {channels} channels")
    size = outputs * (channels // groups) * height * width
    _require(layer.integer(6) == size, layer, f"has weights of {layer.integer(6)} numbers")
    term = layer.integer(8)
    _require(term in ((0, 1, 101) if depthwise else (0, 2, 102)), layer, "has other scales")
    _require(layer.integer(5) in (0, 1), layer, "has an odd bias")
    activation = layer.integer(9)
    known = 0 <= activation < len(_ACTIVATION_NUMBERS)
    _require(known, layer, f"has activation {activation}")
    numbers = len(layer.options.get(10, ()))
    _require(numbers == _ACTIVATION_NUMBERS[activation], layer, "lacks the activation's numbers")
    return [(outputs, *made)]


def _pooling(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    _require(layer.integer(0) in (0, 1), layer, "pools in another way")
    mode = layer.integer(5)
    _require(mode in (0, 1), layer, "is padded in another way")
    return [(shapes[0][0], *_window(layer, shapes[0], pads=(3, 13, 14, 15), up=mode == 0))]


def _input(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    return [(layer.integer(2), layer.integer(1), layer.integer(0))]


def _memory_data(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    sides = [layer.integer(key) for key in (2, 1, 0)]
    return [tuple(sides[next((i for i, side in enumerate(sides) if side), 2) :])]


def _same(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    return shapes


def _split(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    return shapes * len(layer.outputs)


def _softmax(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    _axis(layer, layer.integer(0), len(shapes[0]))
    return shapes


def _unary(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    _require(0 <= layer.integer(0) <= 19, layer, "has an unknown operation")
    return shapes


def _binary(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    _require(0 <= layer.integer(0) <= 11, layer, "has an unknown operation")
    _require(layer.integer(1) == 2 - len(shapes), layer, "lacks a number or an input")
    large = max(shapes, key=math.prod)
    for shape in shapes:
        fits = len(shape) == len(large) and all(
            side in (1, full) for side, full in zip(shape, large, strict=True)
        )
        _require(fits, layer, f"is given {shapes}")
    return [large]


def _group_norm(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    groups, channels = layer.integer(0, 1), layer.integer(1)
    fits = groups > 0 and channels % groups == 0 and channels == shapes[0][0]
    _require(fits and layer.integer(3, 1) in (0, 1), layer, f"is given {shapes[0]}")
    return shapes


def _permute(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    _require(layer.integer(0) == 3 and len(shapes[0]) == 3, layer, "permutes in another way")
    channels, height, width = shapes[0]
    return [(height, width, channels)]


# Which of channels, depth, height and width a shape of one, two, three and four axes has.
_AXES_OF_RANKS = ((0, 0, 0, 1), (0, 0, 1, 1), (1, 0, 1, 1), (1, 1, 1, 1))


def _reshape(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    sides = [layer.integer(key, REST) for key in (2, 11, 1, 0)]
    shape = tuple(side for side in sides if side != REST)
    fits = tuple(side != REST for side in sides) in _AXES_OF_RANKS
    fits = fits and math.prod(shape) == math.prod(shapes[0])
    _require(fits, layer, f"makes {shape} of {shapes[0]}")
    return [shape]


def _concat(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    first = shapes[0]
    axis = _axis(layer, layer.integer(0), len(first))
    others = {(len(shape), *shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    _require(len(others) == 1, layer, f"is given {shapes}")
    return [(*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])]


def _slice(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    shape, parts = shapes[0], layer.integers(0)
    axis = _axis(layer, layer.integer(1), len(shape))
    remaining, made = shape[axis], []
    for index, part in enumerate(parts):
        side = remaining // (len(parts) - index) if part == REST else part
        _require(0 < side <= remaining, layer, f"cuts {shape[axis]} into {parts}")
        remaining -= side
        made.append((*shape[:axis], side, *shape[axis + 1 :]))
    _require(remaining == 0, layer, f"leaves {remaining} of {shape[axis]}")
    return made


def _crop(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    sides = list(shapes[0])
    starts, ends, axes = (layer.integers(key) for key in (9, 10, 11))
    _require(0 < len(starts) == len(ends) == len(axes), layer, "has no cut")
    for start, end, axis in zip(starts, ends, axes, strict=True):
        at = _axis(layer, axis, len(sides))
        stop = sides[at] if end == REST else end
        _require(0 <= start < stop <= sides[at], layer, f"cuts {start} to {stop} of {sides[at]}")
        sides[at] = stop - start
    _require(len(set(axes)) == len(axes), layer, "cuts twice")
    return [tuple(sides)]


def _only_axis(layer: NcnnLayer) -> int:
    axes = layer.integers(3)
    _require(len(axes) == 1, layer, f"has axes {axes}")
    return axes[0]


def _expand(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    axis = _only_axis(layer)
    _require(0 <= axis <= len(shapes[0]) <= 2, layer, f"adds axis {axis} to {shapes[0]}")
    return [(*shapes[0][:axis], 1, *shapes[0][axis:])]


def _squeeze(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    axis, shape = _only_axis(layer), shapes[0]
    fits = 0 <= axis < len(shape) > 1 and shape[axis] == 1
    _require(fits, layer, f"drops axis {axis} of {shape}")
    return [(*shape[:axis], *shape[axis + 1 :])]


def _reduction(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    shape = shapes[0]
    axes = {_axis(layer, axis, len(shape)) for axis in layer.integers(3)}
    kept = layer.integer(4) == 1 and layer.integer(1) == 0 and layer.integer(5) == 1
    _require(bool(axes) and kept and 0 <= layer.integer(0) <= 10, layer, "reduces in another way")
    return [tuple(1 if axis in axes else side for axis, side in enumerate(shape))]


def _interp(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    _require(layer.integer(0) in (1, 2) and len(shapes[0]) == 3, layer, "resizes in another way")
    height, width = layer.integer(3), layer.integer(4)
    _require(0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE, layer, "resizes to nothing")
    return [(shapes[0][0], height, width)]


def _shuffle(layer: NcnnLayer, shapes: list[Shape]) -> list[Shape]:
    groups, shape = layer.integer(0, 1), shapes[0]
    fits = len(shape) == 3 and groups > 0 and shape[0] % groups == layer.integer(1) == 0
    _require(fits, layer, f"shuffles {shape} in {groups} groups")
    return shapes


_CONVOLUTION_NUMBERS = (0, 1, 2, 3, 4, 5, 6, 8, 9, 11, 12, 13, 14, 15, 16)

RULES = {
    "BinaryOp": Rule(_binary, (0, 1, 2), inputs=(1, 2)),
    "Clip": Rule(_same, (0, 1)),
    "Concat": Rule(_concat, (0,), inputs=(1, 256)),
    "Convolution": Rule(_convolution, _CONVOLUTION_NUMBERS, (10,)),
    "ConvolutionDepthWise": Rule(_convolution, (*_CONVOLUTION_NUMBERS, 7), (10,)),
    "Crop": Rule(_crop, (), (9, 10, 11)),
    "ExpandDims": Rule(_expand, (), (3,)),
    "GroupNorm": Rule(_group_norm, (0, 1, 2, 3)),
    "HardSigmoid": Rule(_same, (0, 1)),
    "HardSwish": Rule(_same, (0, 1)),
    "Input": Rule(_input, (0, 1, 2), inputs=(0, 0)),
    "Interp": Rule(_interp, (0, 3, 4, 6)),
    "MemoryData": Rule(_memory_data, (0, 1, 2), inputs=(0, 0)),
    "Mish": Rule(_same),
    "Permute": Rule(_permute, (0,)),
    "Pooling": Rule(_pooling, (0, 1, 2, 3, 5, 6, 11, 12, 13, 14, 15)),
    "ReLU": Rule(_same, (0,)),
    "Reduction": Rule(_reduction, (0, 1, 2, 4, 5), (3,)),
    "Reshape": Rule(_reshape, (0, 1, 2, 11)),
    "ShuffleChannel": Rule(_shuffle, (0, 1)),
    "Sigmoid": Rule(_same),
    "Slice": Rule(_slice, (1,), (0,)),
    "Softmax": Rule(_softmax, (0, 1)),
    "Split": Rule(_split),
    "Squeeze": Rule(_squeeze, (), (3,)),
    "Swish": Rule(_same),
    "UnaryOp": Rule(_unary, (0,)),
}
