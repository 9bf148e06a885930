"""Small networks to be timed once on a device: what its predictions are made of.

Each is a few blocks as detectors have them, with weights of their own, so that an operator is met
between its usual neighbours: where a runtime changes the layout of memory, or fuses, it does so
here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from flyweight.profiling.draft import INPUT, Draft
from flyweight.profiling.operation import NetworkCost

# what a probe is made of: its kind and numbers, as they stand in a calibration's JSON
Probe = tuple[str | int, ...]

ANCHORS = 6


def draft(probe: Probe) -> NetworkCost:
    """The network of a probe."""
    kind, *numbers = probe
    made = BLOCKS[str(kind)](*numbers)
    rows = [index for index, each in enumerate(made.operations) if len(each.output_shape) == 3]
    return made.cost("-".join(map(str, probe)), outputs=rows)


def _start(channels: int, size: int) -> Draft:
    return Draft((1, channels, size, size))


def _pointwise(narrow: int, wide: int, size: int, repeats: int) -> Draft:
    made, x = _start(narrow, size), INPUT
    for _ in range(repeats):
        x = made.conv(made.conv(x, wide, act="relu"), narrow)
    return made


def _dense(channels: int, size: int, kernel: int, repeats: int) -> Draft:
    made, x = _start(channels, size), INPUT
    for _ in range(repeats):
        x = made.conv(x, channels, kernel=kernel, act="relu")
    return made


def _down(channels: int, size: int) -> Draft:
    """Dense 3×3 of stride 2, twice the channels each."""
    made, x = _start(channels, size), INPUT
    for times in (2, 4):
        x = made.conv(x, times * channels, kernel=3, stride=2, act="relu")
    return made


def _basic(channels: int, size: int, repeats: int) -> Draft:
    """ResNet's basic block."""
    made, x = _start(channels, size), INPUT
    for _ in range(repeats):
        first = made.conv(x, channels, kernel=3, act="relu")
        second = made.conv(first, channels, kernel=3)
        x = made.add("relu", [made.add("add", [x, second])])
    return made


def _depthwise(channels: int, size: int, kernel: int, stride: int, repeats: int) -> Draft:
    made, x = _start(channels, size), INPUT
    for _ in range(repeats):
        x = made.depthwise(x, kernel=kernel, stride=stride, act="relu6")
    return made


def _separable(channels: int, size: int, kernel: int, stride: int, repeats: int) -> Draft:
    """MobileNetV1's block."""
    made, x = _start(channels, size), INPUT
    for _ in range(repeats):
        x = made.depthwise(x, kernel=kernel, stride=stride, act="relu6")
        x = made.conv(x, channels * stride, act="relu6")
    return made


def _inverted(channels: int, size: int, kernel: int, act: str, squeeze: int, repeats: int) -> Draft:
    """MobileNetV2's and V3's block at stride 1, six times as wide inside."""
    made, x = _start(channels, size), INPUT
    wide = 6 * channels
    for _ in range(repeats):
        inside = made.conv(x, wide, act=act)
        inside = made.depthwise(inside, kernel=kernel, act=act)
        if squeeze:
            inside = _squeeze(made, inside, wide // squeeze)
        x = made.add("add", [x, made.conv(inside, channels)])
    return made


def _squeeze(made: Draft, x: int, narrow: int) -> int:
    """Squeeze-and-excitation (Hu et al. 2018), in MobileNetV3's form."""
    channels = made.shape(x)[1]
    pooled = made.add("global_avg_pool", [x], (1, channels, 1, 1))
    gate = made.conv(made.conv(pooled, narrow, act="relu"), channels, act="hardsigmoid")
    return made.add("mul", [x, gate])


def _squeezed(channels: int, size: int, repeats: int) -> Draft:
    made, x = _start(channels, size), INPUT
    for _ in range(repeats):
        x = _squeeze(made, made.depthwise(x, act="relu"), max(channels // 4, 8))
    return made


def _activated(channels: int, size: int, act: str, repeats: int) -> Draft:
    made, x = _start(channels, size), INPUT
    for _ in range(repeats):
        x = made.conv(x, channels, act=act)
    return made


def _grouped(channels: int, size: int, groups: int, kernel: int, repeats: int) -> Draft:
    made, x = _start(channels, size), INPUT
    for _ in range(repeats):
        x = made.conv(x, channels, kernel=kernel, groups=groups, act="relu")
    return made


def _shuffled(channels: int, size: int, groups: int, repeats: int) -> Draft:
    """ShuffleNetV1's block: grouped, shuffled, depthwise, grouped, added."""
    made, x = _start(channels, size), INPUT
    for _ in range(repeats):
        inside = made.conv(x, channels // 4, groups=groups, act="relu")
        inside = made.depthwise(made.add("channel_shuffle", [inside]))
        x = made.add("relu", [made.add("add", [x, made.conv(inside, channels, groups=groups)])])
    return made


def _split(channels: int, size: int, repeats: int) -> Draft:
    """ShuffleNetV2's unit: half of the channels pass by, the others are worked on."""
    made, x = _start(channels, size), INPUT
    half = channels // 2
    for _ in range(repeats):
        inside = made.conv(x, half, share=2, act="relu")
        inside = made.conv(made.depthwise(inside), half, act="relu")
        shapes = [(1, half, size, size)] * 2
        x = made.add("concat", [x, inside], (1, channels, size, size), input_shapes=shapes)
        x = made.add("channel_shuffle", [x])
    return made


def _fire(channels: int, size: int, repeats: int) -> Draft:
    """SqueezeNet's block: two branches and their concatenation."""
    made, x = _start(channels, size), INPUT
    for _ in range(repeats):
        narrow = made.conv(x, channels // 4, act="relu")
        ones = made.conv(narrow, channels // 2, act="relu")
        threes = made.conv(narrow, channels // 2, kernel=3, act="relu")
        x = made.concat([ones, threes])
    return made


def _pooled(channels: int, size: int, kind: str, kernel: int, stride: int, repeats: int) -> Draft:
    made, x = _start(channels, size), INPUT
    for _ in range(repeats):
        x = made.pool(kind, made.conv(x, channels, act="relu"), kernel=kernel, stride=stride)
    return made


def _pyramid(channels: int, size: int, join: str) -> Draft:
    """Laterals and two steps up, by sum (FPN) or by concatenation (YOLO)."""
    made, x = _start(channels, size), INPUT
    for _ in range(2):
        side = 2 * made.shape(x)[2] if x != INPUT else 2 * size
        lower = made.conv(x, channels)
        upper = made.add("interpolate", [lower], (1, channels, side, side))
        lateral = made.conv(upper, channels)
        both = [upper, lateral]
        x = made.add("add", both) if join == "add" else made.conv(made.concat(both), channels)
    return made


def _sums(channels: int, size: int, repeats: int) -> Draft:
    """Sums that no convolution can take in: both terms come from an activation."""
    made, x = _start(channels, size), INPUT
    for _ in range(repeats):
        x = made.add("add", [x, made.conv(x, channels, act="relu")])
    return made


def _normed(channels: int, size: int, repeats: int, norm: str = "group_norm") -> Draft:
    made, x = _start(channels, size), INPUT
    for _ in range(repeats):
        x = made.add(norm, [made.conv(x, channels)], params=2 * channels)
        x = made.add("relu", [x])
    return made


def _head(channels: int, size: int, classes: int) -> Draft:
    """Predictors of six boxes a cell over three levels, laid out by anchor as SSDlite's."""
    made, x = _start(channels, size), INPUT
    levels = [x]
    for _ in range(2):
        levels.append(made.depthwise(levels[-1], stride=2, act="relu6"))
    for values in (4, classes):
        rows, shapes = [], []
        for level in levels:
            out = made.conv(made.depthwise(level, act="relu6"), ANCHORS * values)
            side = made.shape(out)[2]
            shape = (side, side, ANCHORS, values)
            rows.append(made.add("copy", [out], shape, input_shapes=[shape]))
            shapes.append((1, side * side * ANCHORS, values))
        total = sum(shape[1] for shape in shapes)
        made.add("concat", rows, (1, total, values), input_shapes=shapes)
    return made


def _stem(channels: int, size: int, kernel: int) -> Draft:
    """From a picture to the first map."""
    made = _start(3, size)
    x = made.conv(INPUT, channels, kernel=kernel, stride=2, act="relu")
    made.depthwise(x, stride=2, act="relu")
    return made


BLOCKS: dict[str, Callable[..., Draft]] = {
    "pointwise": _pointwise,
    "dense": _dense,
    "down": _down,
    "basic": _basic,
    "depthwise": _depthwise,
    "separable": _separable,
    "inverted": _inverted,
    "squeezed": _squeezed,
    "activated": _activated,
    "grouped": _grouped,
    "shuffled": _shuffled,
    "split": _split,
    "fire": _fire,
    "pooled": _pooled,
    "pyramid": _pyramid,
    "sums": _sums,
    "normed": _normed,
    "head": _head,
    "stem": _stem,
}


def grid() -> list[Probe]:
    """All probes of a calibration, in an order in which any first part is worth having."""
    probes = [(kind, *numbers) for kind, numbers in _numbers()]
    # a calibration that was broken off has some of everything
    return [probe for start in range(7) for probe in probes[start::7]]


def _numbers() -> Iterator[tuple[str, tuple[Any, ...]]]:
    # maps shrink as channels grow, as in any backbone; a few pairs besides for what is unusual
    for size, narrow, wide in _POINTWISE:
        yield "pointwise", (narrow, wide, size, 2)
    for size, channels in _DENSE:
        yield "dense", (channels, size, 3, 2)
    for size, channels in ((20, 64), (10, 128), (40, 16)):
        yield "dense", (channels, size, 5, 2)
    for size, channels in ((112, 16), (80, 32), (56, 32), (40, 64), (28, 64), (20, 128), (14, 128)):
        yield "down", (channels, size)
    for size, channels in ((56, 32), (28, 64), (14, 128), (40, 48), (10, 256)):
        yield "basic", (channels, size, 2)
    for size, channels in _DEPTHWISE:
        for kernel in (3, 5):
            yield "depthwise", (channels, size, kernel, 1, 3)
        yield "depthwise", (channels, size, 3, 2, 2)
        if size >= 28:
            yield "depthwise", (channels, size, 5, 2, 2)
    for size, channels in (
        (112, 24),
        (75, 64),
        (40, 128),
        (28, 96),
        (19, 256),
        (10, 512),
        (5, 256),
    ):
        yield "separable", (channels, size, 3, 1, 2)
        yield "separable", (channels, size, 3, 2, 1)
    for size, channels, kernel, act, squeeze in _INVERTED:
        yield "inverted", (channels, size, kernel, act, squeeze, 2)
    for size, channels in (
        (80, 16),
        (40, 72),
        (28, 120),
        (20, 240),
        (14, 480),
        (10, 672),
        (7, 576),
    ):
        yield "squeezed", (channels, size, 2)
    for act in ("relu", "relu6", "hardswish", "leaky_relu", "sigmoid", "silu"):
        for size, channels in ((80, 16), (28, 64), (14, 256)):
            yield "activated", (channels, size, act, 3)
    for size, channels in ((56, 32), (28, 96), (14, 192), (7, 384)):
        for groups in (2, 4, 8):
            yield "grouped", (channels, size, groups, 1, 3)
        yield "grouped", (channels, size, 4, 3, 2)
        yield "shuffled", (channels, size, 4, 2)
        yield "shuffled", (channels, size, 2, 2)
    for size, channels in ((40, 116), (28, 24), (20, 232), (14, 116), (10, 464), (7, 232)):
        yield "split", (channels, size, 2)
    for size, channels in ((80, 64), (40, 128), (20, 256), (10, 512)):
        yield "fire", (channels, size, 2)
        yield "pooled", (channels, size, "max_pool2d", 3, 2, 1)
        yield "pooled", (channels, size, "avg_pool2d", 3, 2, 1)
        yield "pooled", (channels, size, "max_pool2d", 2, 2, 1)
    for size, channels in ((20, 128), (13, 256)):
        yield "pooled", (channels, size, "max_pool2d", 5, 1, 2)
    for size, channels in ((7, 64), (10, 128), (10, 256), (20, 64), (5, 96)):
        yield "pyramid", (channels, size, "add")
        yield "pyramid", (channels, size, "concat")
    for size, channels in ((112, 24), (56, 48), (28, 64), (14, 64), (14, 224), (7, 256), (3, 128)):
        yield "normed", (channels, size, 3)
    for size, channels in ((80, 16), (28, 64), (14, 96), (7, 256)):
        yield "sums", (channels, size, 3)
        yield "normed", (channels, size, 3, "batch_norm")
    # wherever a runtime does not fold them there are as many as convolutions
    for size, channels in ((112, 24), (40, 96), (20, 256), (10, 480), (3, 128)):
        yield "normed", (channels, size, 3, "batch_norm")
    for size, channels in ((40, 64), (20, 96), (20, 256), (10, 512), (38, 128), (14, 64)):
        for classes in (4, 21, 91):
            yield "head", (channels, size, classes)
    for size in (128, 224, 320, 416):
        for channels in (8, 16, 32):
            yield "stem", (channels, size, 3)
    yield "stem", (64, 224, 7)


_POINTWISE = (
    (160, 16, 16), (112, 16, 32), (112, 8, 48), (80, 16, 64), (80, 24, 144), (75, 64, 128),
    (56, 24, 72), (56, 32, 32), (40, 32, 192), (40, 64, 64), (38, 128, 256), (40, 20, 40),
    (28, 32, 96), (28, 58, 58), (28, 128, 128), (20, 64, 384), (20, 96, 576), (19, 256, 512),
    (20, 40, 120), (14, 64, 128), (14, 116, 116), (14, 112, 672), (14, 256, 256), (13, 256, 512),
    (10, 160, 960), (10, 256, 512), (10, 96, 576), (10, 512, 1024), (7, 96, 576), (7, 232, 232),
    (7, 64, 256), (7, 512, 512), (5, 128, 256), (5, 256, 512), (3, 128, 256), (3, 64, 128),
    (2, 64, 256), (1, 64, 128), (1, 256, 512), (1, 72, 24), (1, 16, 96),
)  # fmt: skip
_DENSE = (
    (160, 8), (112, 16), (80, 32), (75, 24), (56, 32), (56, 64), (40, 48), (40, 96), (38, 128),
    (28, 32), (28, 64), (28, 128), (20, 64), (20, 128), (19, 256), (14, 64), (14, 128), (14, 256),
    (10, 96), (10, 256), (7, 128), (7, 256), (5, 128), (5, 256), (3, 128), (2, 128), (1, 64),
)  # fmt: skip
_DEPTHWISE = (
    (160, 32), (112, 16), (112, 48), (80, 24), (80, 96), (75, 128), (56, 48), (56, 144), (40, 72),
    (40, 192), (28, 120), (28, 64), (20, 96), (20, 384), (20, 576), (14, 116), (14, 480),
    (10, 240), (10, 576), (10, 960), (7, 232), (7, 576), (5, 128), (5, 480), (3, 256), (2, 128),
    (1, 128),
)  # fmt: skip
_INVERTED = (
    (80, 16, 3, "relu6", 0), (56, 16, 3, "relu6", 0), (40, 24, 3, "relu", 0),
    (40, 32, 3, "relu6", 0), (28, 40, 5, "relu", 4), (28, 24, 3, "hardswish", 0),
    (20, 64, 3, "relu6", 0), (20, 80, 3, "hardswish", 0), (20, 40, 5, "hardswish", 4),
    (14, 64, 3, "relu6", 0), (14, 112, 5, "hardswish", 4), (10, 160, 3, "relu6", 0),
    (10, 96, 5, "hardswish", 4), (7, 160, 5, "hardswish", 4), (7, 56, 3, "relu6", 0),
    (5, 80, 3, "relu6", 0),
)  # fmt: skip
