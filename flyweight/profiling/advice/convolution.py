"""Convolutions of a network: which there are, how deep they lie, and what another would cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flyweight.profiling.operation import FLOAT_BYTES, Geometry, NetworkCost, Operation

CONVOLUTIONS = ("conv2d", "conv_transpose2d", "deform_conv2d")
PARTS = ("backbone", "neck", "head")


def convolutions(cost: NetworkCost) -> list[tuple[int, Operation]]:
    """(index, operation) of the plain convolutions with weights, in order."""
    return [
        (index, operation)
        for index, operation in enumerate(cost.operations)
        if operation.kind == "conv2d" and operation.geometry is not None
    ]


def geometry_of(operation: Operation) -> Geometry:
    """Of a convolution; others have none."""
    assert operation.geometry is not None, operation.layer
    return operation.geometry


def channels(operation: Operation) -> tuple[int, int]:
    """Input and output channels."""
    return operation.input_shapes[0][1], operation.output_shape[1]


def cells(operation: Operation) -> int:
    """Cells of one channel of the output."""
    return operation.output_shape[-1] * operation.output_shape[-2]


def part_of(operation: Operation) -> str:
    """ "backbone", "neck" or "head" by the layer's path; "" of anything else."""
    return next((name for name in operation.layer.split(".") if name in PARTS), "")


def predictors(cost: NetworkCost) -> set[int]:
    """Indices of the last convolutions before an output: classes and boxes give their width."""
    found: set[int] = set()
    seen: set[int] = set()
    waiting = [index for index in cost.outputs if index >= 0]
    while waiting:
        index = waiting.pop()
        if index in seen:
            continue
        seen.add(index)
        operation = cost.operations[index]
        if operation.kind in (*CONVOLUTIONS, "linear"):
            found.add(index)
        else:
            waiting += [each for each in operation.inputs if each >= 0]
    return found


def convolution_like(
    operation: Operation,
    *,
    in_channels: int | None = None,
    out_channels: int | None = None,
    geometry: Geometry | None = None,
    output_hw: tuple[int, int] | None = None,
) -> Operation:
    """The convolution that takes the place of `operation`, priced for float32.

    Args:
        in_channels, out_channels, geometry, output_hw: those of `operation` by default.
    """
    old_geometry = geometry_of(operation)
    new = old_geometry if geometry is None else geometry
    before_in, before_out = channels(operation)
    inputs = before_in if in_channels is None else in_channels
    outputs = before_out if out_channels is None else out_channels
    batch, _, *in_hw = operation.input_shapes[0]
    rows, columns = operation.output_shape[-2:] if output_hw is None else output_hw
    area = new.kernel_hw[0] * new.kernel_hw[1]
    weights = outputs * (inputs // new.groups) * area
    old_area = old_geometry.kernel_hw[0] * old_geometry.kernel_hw[1]
    old_weights = before_out * (before_in // old_geometry.groups) * old_area
    has_bias = operation.weight_bytes > FLOAT_BYTES * old_weights
    values = weights + (outputs if has_bias else 0)
    return replace(
        operation,
        input_shapes=((batch, inputs, *in_hw),),
        output_shape=(batch, outputs, rows, columns),
        params=values if operation.params else 0,  # a shared layer counts once
        macs=batch * weights * rows * columns,
        weight_bytes=FLOAT_BYTES * values,
        read_bytes=FLOAT_BYTES * batch * inputs * in_hw[0] * in_hw[1],
        written_bytes=FLOAT_BYTES * batch * outputs * rows * columns,
        geometry=new,
    )


def separable_like(operation: Operation) -> tuple[Operation, Operation]:
    """The depthwise and the pointwise half that take the place of a dense convolution
    (MobileNets, https://arxiv.org/abs/1704.04861, section 3.1)."""
    inputs, _ = channels(operation)
    spatial = replace(geometry_of(operation), groups=inputs)
    depthwise = convolution_like(operation, out_channels=inputs, geometry=spatial)
    behind = replace(operation, input_shapes=(depthwise.output_shape,))
    return depthwise, convolution_like(behind, geometry=Geometry((1, 1)))


def factorised_like(operation: Operation) -> tuple[Operation, Operation]:
    """k×1 and 1×k in place of k×k (Inception-v3, https://arxiv.org/abs/1512.00567, section 3.2)."""
    geometry = geometry_of(operation)
    (rows, columns), (down, across) = geometry.kernel_hw, geometry.stride_hw
    (pad_y, pad_x), (dilate_y, dilate_x) = geometry.padding_hw, geometry.dilation_hw
    upright = Geometry((rows, 1), (down, 1), (dilate_y, 1), (pad_y, 0), geometry.groups)
    flat = Geometry((1, columns), (1, across), (1, dilate_x), (0, pad_x), geometry.groups)
    middle_hw = (operation.output_shape[-2], operation.input_shapes[0][-1])
    inputs, outputs = channels(operation)
    middle = min(inputs, outputs) if geometry.groups == 1 else inputs
    first = convolution_like(operation, out_channels=middle, geometry=upright, output_hw=middle_hw)
    behind = replace(operation, input_shapes=(first.output_shape,))
    return first, convolution_like(behind, geometry=flat)


def longest_path(cost: NetworkCost, counted: Sequence[int]) -> int:
    """The most of the operations `counted` (indices) that lie on one way through the network."""
    chosen = set(counted)
    depth: dict[int, int] = {-1: 0}
    for index, operation in enumerate(cost.operations):
        before = max((depth[each] for each in operation.inputs), default=0)
        depth[index] = before + (index in chosen)
    return max(depth.values())
