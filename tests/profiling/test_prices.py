"""The price of each operator, by hand and against torch's own counter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from flyweight.models.layers import (
    ChannelShuffle,
    DeformableConv,
    IndexedMaxPool,
    MaxUnpool,
    SqueezeExcite,
    group_norm,
)
from flyweight.models.ops.roi import multi_scale_roi_align
from flyweight.profiling.operation import Geometry, NetworkCost, Operation
from flyweight.profiling.trace import trace

FLOATS = 2 * 8 * 6 * 10
INPUT_SHAPE = (2, 8, 6, 10)


class Function(nn.Module):
    """A function of a tensor as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def cost_of(layer: nn.Module | Callable[[Tensor], Tensor]) -> NetworkCost:
    return trace(layer if isinstance(layer, nn.Module) else Function(layer), INPUT_SHAPE)


def single(layer: nn.Module | Callable[[Tensor], Tensor]) -> Operation:
    (operation,) = cost_of(layer).operations
    return operation


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 12, 3),
        nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False),
        nn.Conv2d(8, 12, (3, 5), stride=(1, 2), groups=4),
        nn.Conv2d(8, 16, 3, padding=2, dilation=2, groups=8),
        nn.Conv2d(8, 8, (5, 1), padding=(2, 0)),
        nn.ConvTranspose2d(8, 12, 4, stride=2, padding=1),
        nn.ConvTranspose2d(8, 12, 3, stride=3, groups=2, output_padding=1),
        nn.Linear(10, 7),
        Function(lambda x: x @ x.transpose(2, 3)),
        Function(lambda x: functional.linear(x.flatten(1), x.flatten(1))),
        SqueezeExcite(8, 4),
    ],
    ids=str,
)
def test_macs_are_torchs(layer: nn.Module) -> None:
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(INPUT_SHAPE))
    cost = cost_of(layer)
    assert 2 * cost.macs == counter.get_total_flops() > 0
    assert cost.params == sum(each.numel() for each in layer.parameters())


def test_convolution_by_hand() -> None:
    layer = nn.Conv2d(8, 12, (3, 5), stride=(1, 2), padding=(1, 0), dilation=(1, 2), groups=4)
    found = single(layer)
    assert found.output_shape == (2, 12, 6, 1)
    assert found.geometry == Geometry((3, 5), (1, 2), (1, 2), (1, 0), groups=4)
    assert found.macs == 2 * 12 * 6 * (2 * 15)
    assert found.params == 12 * 2 * 15 + 12
    assert (found.read_bytes, found.written_bytes) == (4 * FLOATS, 4 * 2 * 12 * 6)
    assert found.weight_bytes == 4 * found.params
    assert found.elementwise == 0
    assert not found.depthwise
    assert single(nn.Conv2d(8, 8, 3, groups=8)).depthwise


@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_convolution(modulated: bool) -> None:
    layer = DeformableConv(8, 12, modulated=modulated)
    operations = cost_of(layer).operations
    assert [each.kind for each in operations] == (
        ["conv2d", "sigmoid", "deform_conv2d"] if modulated else ["conv2d", "deform_conv2d"]
    )
    found = operations[-1]
    assert found.macs == 12 * 8 * 9 * 2 * 60
    # Four products and four sums a point and channel, and the point's own weight.
    assert found.elementwise == (9 if modulated else 8) * 9 * 8 * 2 * 60
    offsets = 2 * (27 if modulated else 18) * 60
    assert found.read_bytes == 4 * (FLOATS + 2 * 18 * 60 + (2 * 9 * 60 if modulated else 0))
    assert operations[0].written_bytes == 4 * offsets
    assert found.inputs == ((-1, 0, 1) if modulated else (-1, 0))
    assert found.params == 12 * 8 * 9 + 12


@pytest.mark.parametrize(
    ("layer", "kind", "each"),
    [
        (nn.ReLU(), "relu", 1),
        (nn.ReLU(inplace=True), "relu", 1),
        (nn.ReLU6(), "relu6", 2),
        (nn.Hardtanh(), "hardtanh", 2),
        (nn.LeakyReLU(0.1), "leaky_relu", 2),
        (nn.Hardswish(), "hardswish", 5),
        (nn.Hardsigmoid(), "hardsigmoid", 4),
        (nn.Sigmoid(), "sigmoid", 4),
        (nn.SiLU(), "silu", 5),
        (nn.Mish(), "mish", 6),
        (lambda x: x + 1, "add", 1),
        (lambda x: x * x, "mul", 1),
        (ChannelShuffle(2), "channel_shuffle", 0),
        (torch.clone, "copy", 0),
    ],
)
def test_element_wise_operators_read_and_write_every_value(
    layer: nn.Module | Callable[[Tensor], Tensor], kind: str, each: int
) -> None:
    found = single(layer)
    assert (found.kind, found.macs, found.elementwise) == (kind, 0, each * FLOATS)
    assert found.read_bytes == 4 * FLOATS * len(found.inputs)
    assert found.written_bytes == 4 * FLOATS


def test_norms() -> None:
    batch = single(nn.BatchNorm2d(8))
    assert (batch.kind, batch.elementwise, batch.params) == ("batch_norm", 2 * FLOATS, 16)
    assert batch.weight_bytes == 4 * 4 * 8
    assert (batch.read_bytes, batch.written_bytes) == (4 * FLOATS, 4 * FLOATS)
    group = single(group_norm(8))
    assert (group.kind, group.params, group.weight_bytes) == ("group_norm", 16, 64)
    assert group.elementwise == 6 * FLOATS


@pytest.mark.parametrize(
    ("layer", "kind", "window", "cells"),
    [
        (nn.MaxPool2d(2), "max_pool2d", Geometry((2, 2), (2, 2)), 3 * 5),
        (nn.MaxPool2d(3, 1, 1), "max_pool2d", Geometry((3, 3), padding_hw=(1, 1)), 60),
        (nn.MaxPool2d(3, 2, ceil_mode=True), "max_pool2d", Geometry((3, 3), (2, 2)), 3 * 5),
        (nn.AvgPool2d((2, 3)), "avg_pool2d", Geometry((2, 3), (2, 3)), 3 * 3),
    ],
)
def test_pooling(layer: nn.Module, kind: str, window: Geometry, cells: int) -> None:
    found = single(layer)
    assert (found.kind, found.geometry) == (kind, window)
    assert found.output_shape[2] * found.output_shape[3] == cells
    kernel = window.kernel_hw[0] * window.kernel_hw[1]
    assert found.elementwise == kernel * 2 * 8 * cells
    # torch also writes where each maximum was; nobody reads it.
    assert found.written_bytes == 4 * 2 * 8 * cells


@pytest.mark.parametrize(
    "layer", [nn.AdaptiveAvgPool2d(1), Function(lambda x: x.mean((2, 3), keepdim=True))]
)
def test_global_pooling(layer: nn.Module) -> None:
    found = single(layer)
    assert (found.kind, found.elementwise) == ("global_avg_pool", FLOATS)
    assert (found.written_bytes, found.receptive_field) == (4 * 16, None)


class Unpooled(nn.Module):
    """Pooling that remembers places, and its inverse."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.unpool = IndexedMaxPool(), MaxUnpool()

    def forward(self, x: Tensor) -> Tensor:
        maxima, indices = self.pool(x)
        unpooled: Tensor = self.unpool(maxima, indices, size_hw=(6, 10))
        return unpooled


def test_unpooling() -> None:
    pool, fill, scatter = cost_of(Unpooled()).operations
    assert [each.kind for each in (pool, fill, scatter)] == ["max_pool2d", "fill", "scatter"]
    quarter = FLOATS // 4
    assert pool.written_bytes == (4 + 8) * quarter  # places are of 8 bytes
    assert (fill.read_bytes, fill.written_bytes) == (0, 4 * FLOATS)
    assert scatter.read_bytes == 4 * FLOATS + (4 + 8) * quarter
    assert scatter.inputs == (1, 0, 0)
    assert scatter.layer == "unpool"


@pytest.mark.parametrize(
    ("mode", "each"), [("nearest", 0), ("bilinear", 2 * 4), ("bicubic", 2 * 16)]
)
def test_interpolation(mode: str, each: int) -> None:
    found = single(Function(lambda x: functional.interpolate(x, scale_factor=2, mode=mode)))
    assert (found.kind, found.elementwise) == ("interpolate", each * 4 * FLOATS)
    assert (found.read_bytes, found.written_bytes) == (4 * FLOATS, 16 * FLOATS)


def test_broadcast_values_are_read_once() -> None:
    found = cost_of(SqueezeExcite(8, 4)).operations[-1]
    assert found.kind == "mul"
    assert found.read_bytes == 4 * (FLOATS + 16)
    normalised = cost_of(Function(lambda x: functional.normalize(x, dim=1))).operations
    assert [each.kind for each in normalised] == ["norm", "clamp_min", "div"]
    assert normalised[0].elementwise == 2 * FLOATS
    assert normalised[2].read_bytes == 4 * (FLOATS + FLOATS // 8)


def test_concatenation_reads_and_writes_all() -> None:
    found = single(lambda x: torch.cat((x, x[:, :3]), dim=1))
    assert (found.kind, found.elementwise, found.inputs) == ("concat", 0, (-1, -1))
    assert found.read_bytes == found.written_bytes == 4 * FLOATS * 11 // 8


def test_roi_align() -> None:
    """Each of 7×7 cells of each channel of each region is mixed of 2×2 points of four values."""
    boxes = torch.tensor([[[0.0, 0, 8, 8], [2, 2, 6, 6], [0, 0, 4, 4]]] * 2)
    cost = cost_of(Function(lambda x: multi_scale_roi_align([x], boxes, [1])))
    found = next(each for each in cost.operations if each.kind == "roi_align")
    assert found.output_shape == (6, 8, 7, 7)
    assert found.elementwise == 6 * 8 * 49 * 4 * 8
    assert (found.macs, found.receptive_field) == (0, None)
    assert found.written_bytes == 4 * 6 * 8 * 49


def test_views_cost_nothing() -> None:
    cost = cost_of(lambda x: x.flatten(2).unsqueeze(1).transpose(1, 2).split(3, dim=1)[0])
    assert cost.operations == []
    assert cost.macs == cost.access_bytes == cost.peak_activation_bytes == 0
