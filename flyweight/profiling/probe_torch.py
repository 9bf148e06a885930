"""A drafted network in eager torch, channels-last as bench's: modules, called one by one.

What a pass costs in torch is not arithmetic alone. So an operator is the module that a detector has
for it, inside another one, and a map is freed after its last reader, so that the next one can take
its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from flyweight.profiling.draft import INPUT
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
    read_last = {
        source: index for index, each in enumerate(cost.operations) for source in each.inputs
    }
    unread = [
        [source for source in each.inputs if read_last[source] == index and source not in decoders]
        for index, each in enumerate(cost.operations)
    ]
    batch, channels, height, width = cost.input_shape
    picture = channels == 3
    sample = torch.randn(cost.input_shape, generator=generator)
    sample = sample.to(memory_format=torch.channels_last)
    if picture:
        sample = torch.zeros((batch, height, width, channels), dtype=torch.uint8)
    scale = torch.ones(1, 3, 1, 1)

    @torch.inference_mode()
    def run() -> object:
        first = sample.permute(0, 3, 1, 2).float() * scale + scale if picture else sample
        values = {INPUT: first}
        for index, (operation, layer) in enumerate(zip(cost.operations, layers, strict=True)):
            read = [
                _viewed(values[source], shape, operation)
                for source, shape in zip(operation.inputs, operation.input_shapes, strict=True)
            ]
            values[index] = layer(*read)
            for source in unread[index]:
                values.pop(source, None)
        return [decode(values[index]) for index, decode in decoders.items()]

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

    def weight(*sizes: int) -> nn.Parameter:
        values = torch.randn(sizes, generator=generator) * WEIGHT_DEVIATION
        return nn.Parameter(values, requires_grad=False)

    if kind == "conv2d":
        assert geometry is not None
        window = (geometry.kernel_hw, geometry.stride_hw, geometry.padding_hw, geometry.dilation_hw)
        conv = nn.Conv2d(operation.input_shapes[0][1], shape[1], *window, geometry.groups)
        conv.weight, conv.bias = weight(*conv.weight.shape), weight(shape[1])
        return nn.Sequential(conv).to(memory_format=torch.channels_last)
    if kind in ("max_pool2d", "avg_pool2d"):
        assert geometry is not None
        pool = nn.MaxPool2d if kind == "max_pool2d" else nn.AvgPool2d
        return pool(geometry.kernel_hw, geometry.stride_hw, geometry.padding_hw)
    if kind == "group_norm":
        return nn.GroupNorm(32 if shape[1] % 32 == 0 else 8, shape[1])
    if kind == "batch_norm":
        return nn.BatchNorm2d(shape[1]).eval()
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
    "relu": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(inplace=True),
    "hardswish": nn.Hardswish(inplace=True),
    "hardsigmoid": nn.Hardsigmoid(inplace=True),
    "leaky_relu": nn.LeakyReLU(0.1, inplace=True),
    "silu": nn.SiLU(inplace=True),
    "sigmoid": nn.Sigmoid(),
    "add": torch.add,
    "mul": torch.mul,
    "global_avg_pool": nn.AdaptiveAvgPool2d(1),
    "channel_shuffle": lambda x: functional.channel_shuffle(x, 2),
    "copy": lambda x: x.contiguous(),
    "concat": lambda *parts: torch.cat(parts, 1),
}
