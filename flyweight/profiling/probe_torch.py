"""A drafted network in eager torch: its operators one after the other, channels-last as bench's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from flyweight.profiling.operation import NetworkCost, Operation

BOX_VALUES = 4
WEIGHT_DEVIATION = 0.05

Layer = Callable[..., Tensor]


def open_torch(cost: NetworkCost, *, threads: int) -> Callable[[], object]:
    """One pass with random weights; pictures are taken and rows decoded as a detector does."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    layers = [_layer(operation, generator) for operation in cost.operations]
    decoders = {
        index: _decoder(cost.operations[index].output_shape)
        for index in cost.outputs
        if len(cost.operations[index].output_shape) == 3
    }
    batch, channels, height, width = cost.input_shape
    picture = channels == 3
    sample = torch.randn(cost.input_shape, generator=generator)
    sample = sample.to(memory_format=torch.channels_last)
    if picture:
        sample = torch.zeros((batch, height, width, channels), dtype=torch.uint8)
    scale = torch.ones(1, 3, 1, 1)

    @torch.inference_mode()
    def run() -> object:
        values = [sample.permute(0, 3, 1, 2).float() * scale + scale if picture else sample]
        for operation, layer in zip(cost.operations, layers, strict=True):
            read = [
                _viewed(values[source + 1], shape, operation)
                for source, shape in zip(operation.inputs, operation.input_shapes, strict=True)
            ]
            values.append(layer(*read))
        return [decode(values[index + 1]) for index, decode in decoders.items()]

    return run


def _viewed(value: Tensor, shape: Sequence[int], operation: Operation) -> Tensor:
    if tuple(value.shape) == tuple(shape):
        return value
    if operation.kind == "copy":  # predictions laid out by anchor
        return value.permute(0, 2, 3, 1)
    if value.dim() == len(shape) == 4:
        first, last = value.split((shape[1], value.shape[1] - shape[1]), 1)
        return first if operation.kind == "concat" else last
    return value.reshape(shape)


def _layer(operation: Operation, generator: torch.Generator) -> Layer:
    kind, geometry, shape = operation.kind, operation.geometry, operation.output_shape

    def weight(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator) * WEIGHT_DEVIATION

    if kind == "conv2d":
        assert geometry is not None
        read = operation.input_shapes[0][1] // geometry.groups
        kernel = weight(shape[1], read, *geometry.kernel_hw)
        kernel, bias = kernel.to(memory_format=torch.channels_last), weight(shape[1])
        window = (geometry.stride_hw, geometry.padding_hw, geometry.dilation_hw, geometry.groups)
        return lambda x: functional.conv2d(x, kernel, bias, *window)
    if kind in ("max_pool2d", "avg_pool2d"):
        assert geometry is not None
        pool = getattr(functional, kind)
        places = (geometry.kernel_hw, geometry.stride_hw, geometry.padding_hw)
        return lambda x: pool(x, *places)
    if kind == "group_norm":
        groups = 32 if shape[1] % 32 == 0 else 8
        gain, shift = weight(shape[1]), weight(shape[1])
        return lambda x: functional.group_norm(x, groups, gain, shift)
    if kind == "batch_norm":
        gain, shift, mean, variance = (weight(shape[1]).abs() for _ in range(4))
        return lambda x: functional.batch_norm(x, mean, variance, gain, shift)
    if kind == "interpolate":
        return lambda x: functional.interpolate(x, shape[2:], mode="nearest")
    return LAYERS[kind]


def _decoder(shape: Sequence[int]) -> Layer:
    if shape[2] != BOX_VALUES:
        return lambda x: x.softmax(-1)
    table, limit = torch.ones(*shape[1:]), torch.ones(BOX_VALUES)

    def decode(rows: Tensor) -> Tensor:
        rows = rows * table
        centre = rows[..., :2] + table[:, :2]
        half = rows[..., 2:].clamp(max=4.0).exp() * table[:, :2]
        return torch.cat((centre - half, centre + half), -1).clamp(min=0.0).minimum(limit)

    return decode


LAYERS: dict[str, Layer] = {
    "relu": functional.relu_,
    "relu6": lambda x: functional.hardtanh_(x, 0.0, 6.0),
    "hardswish": lambda x: functional.hardswish(x, inplace=True),
    "hardsigmoid": lambda x: functional.hardsigmoid(x, inplace=True),
    "leaky_relu": lambda x: functional.leaky_relu_(x, 0.1),
    "silu": lambda x: functional.silu(x, inplace=True),
    "sigmoid": torch.sigmoid,
    "add": torch.add,
    "mul": torch.mul,
    "global_avg_pool": lambda x: functional.adaptive_avg_pool2d(x, 1),
    "channel_shuffle": lambda x: functional.channel_shuffle(x, 2),
    "copy": lambda x: x.contiguous(),
    "concat": lambda *parts: torch.cat(parts, 1),
}
