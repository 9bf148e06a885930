"""How much of the picture one cell of a map looks at.

Araujo, Norris and Sim 2019, "Computing receptive fields of convolutional neural networks",
https://doi.org/10.23915/distill.00021: sizes and strides go from the input on, layer by layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from flyweight.profiling.operation import Geometry, NetworkCost, Operation

# What they give has no places of the picture.
NOT_LOCAL = frozenset(
    {"global_avg_pool", "linear", "matmul", "mean", "roi_align", "roi_pool", "sum"}
)
WINDOWED = frozenset({"conv2d", "deform_conv2d", "max_pool2d", "avg_pool2d"})

Pair = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Field:
    """Of the cells of a map, (vertical, horizontal), pixels of the network's input.

    Attributes:
        size_hw: of what one cell depends on.
        step_hw: from one cell to the next.
    """

    size_hw: Pair = (Fraction(1), Fraction(1))
    step_hw: Pair = (Fraction(1), Fraction(1))

    @property
    def size(self) -> int:
        """The longer side."""
        return math.ceil(max(self.size_hw))

    @property
    def stride(self) -> int | None:
        """The longer step; None where cells are finer than pixels."""
        step = max(self.step_hw)
        return int(step) if step.denominator == 1 else None

    def every(self, steps_hw: tuple[int, int]) -> Field:
        """Only every n-th cell of it."""
        height, width = (step * every for step, every in zip(self.step_hw, steps_hw, strict=True))
        return Field(self.size_hw, (height, width))


def propagate(
    kind: str,
    fields: Sequence[Field | None],
    *,
    geometry: Geometry | None = None,
    taps: int = 1,
    scale_hw: Pair = (Fraction(1), Fraction(1)),
) -> Field | None:
    """The field of an operation's output.

    Where maps meet (additions, concatenations) the larger field counts; rows of predictions from
    maps of several strides are no map. A gate that sees everything (squeeze-and-excitation) says
    nothing about places and is left out, and so are the statistics of GroupNorm.

    Args:
        fields: of the inputs; None where one is not local.
        geometry: of convolutions and poolings.
        taps: of an interpolation, cells along a side that one is mixed from.
        scale_hw: of an interpolation, cells of the output for one of the input.
    """
    local = [each for each in fields if each is not None]
    if kind in NOT_LOCAL or not local:
        return None
    if kind in WINDOWED and geometry is not None:
        # Of the first input alone: a deformable convolution's offsets are read at the cell itself.
        local[0] = _window(local[0], geometry)
    elif kind == "conv_transpose2d" and geometry is not None:
        local[0] = _transposed(local[0], geometry)
    elif kind == "interpolate":
        local[0] = _interpolated(local[0], taps=taps, scale_hw=scale_hw)
    if len({each.step_hw for each in local}) != 1:
        return None
    heights, widths = zip(*(each.size_hw for each in local), strict=True)
    return Field((max(heights), max(widths)), local[0].step_hw)


def prediction_levels(cost: NetworkCost) -> tuple[Operation, ...]:
    """The operations that predict, one a level, finest first; () where the network is no detector.

    A dense head lays the predictions of all levels out in one row: the first output of the network
    that is such a concatenation reads one prediction a level.
    """
    for index in cost.outputs:
        operation = cost.operations[index]
        if operation.kind == "concat":
            return tuple(cost.operations[each] for each in operation.inputs if each >= 0)
    return ()


def _window(field: Field, geometry: Geometry) -> Field:
    sides = zip(
        *_sides(field), geometry.kernel_hw, geometry.stride_hw, geometry.dilation_hw, strict=True
    )
    return _field_of(
        (size + (kernel - 1) * dilation * step, step * stride)
        for size, step, kernel, stride, dilation in sides
    )


def _transposed(field: Field, geometry: Geometry) -> Field:
    sides = zip(
        *_sides(field), geometry.kernel_hw, geometry.stride_hw, geometry.dilation_hw, strict=True
    )
    # Only every stride-th weight of the kernel meets a cell, the others meet zeros.
    return _field_of(
        (size + (kernel - 1) * dilation // stride * step, step / stride)
        for size, step, kernel, stride, dilation in sides
    )


def _interpolated(field: Field, *, taps: int, scale_hw: Pair) -> Field:
    sides = zip(*_sides(field), scale_hw, strict=True)
    return _field_of((size + (taps - 1) * step, step / scale) for size, step, scale in sides)


def _sides(field: Field) -> tuple[Pair, Pair]:
    return field.size_hw, field.step_hw


def _field_of(sides: Iterable[tuple[Fraction, Fraction]]) -> Field:
    """From the size and the step of both sides."""
    (height, down), (width, across) = sides
    return Field((height, width), (down, across))
