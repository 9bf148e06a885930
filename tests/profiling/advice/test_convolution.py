"""What another convolution would cost: against torch's own layers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from torch import nn

from flyweight.profiling.advice.convolution import (
    convolution_like,
    convolutions,
    factorised_like,
    longest_path,
    part_of,
    predictors,
    separable_like,
)
from flyweight.profiling.operation import Geometry, Operation
from flyweight.profiling.trace import trace
from tests.profiling.advice.hand_made import Network


def traced(*layers: nn.Module, size: int = 12, channels: int = 16) -> list[Operation]:
    cost = trace(nn.Sequential(*layers), (1, channels, size, size))
    return list(cost.operations)


def figures(operations: Sequence[Operation]) -> list[tuple[object, ...]]:
    return [
        (
            each.input_shapes,
            each.output_shape,
            each.params,
            each.macs,
            each.weight_bytes,
            each.read_bytes,
            each.written_bytes,
        )
        for each in operations
    ]


@pytest.mark.parametrize("bias", [True, False])
def test_other_channels_and_kernels_cost_what_torch_says(bias: bool) -> None:
    (before,) = traced(nn.Conv2d(16, 32, 3, padding=1, bias=bias))
    (wanted,) = traced(nn.Conv2d(8, 24, 1, stride=2, bias=bias), channels=8)
    other = convolution_like(
        before,
        in_channels=8,
        out_channels=24,
        geometry=Geometry((1, 1), (2, 2)),
        output_hw=(6, 6),
    )
    assert figures([other]) == figures([wanted])


def test_a_shared_layer_still_counts_once() -> None:
    (before,) = traced(nn.Conv2d(16, 32, 3))
    again = Operation(**{**before.__dict__, "params": 0})
    assert convolution_like(again, out_channels=64).params == 0


@pytest.mark.parametrize("stride", [1, 2])
def test_separable_halves(stride: int) -> None:
    (dense,) = traced(nn.Conv2d(16, 32, 5, stride=stride, padding=2))
    wanted = traced(nn.Conv2d(16, 16, 5, stride=stride, padding=2, groups=16), nn.Conv2d(16, 32, 1))
    assert figures(separable_like(dense)) == figures(wanted)


@pytest.mark.parametrize("stride", [1, 2])
def test_factorised_kernels(stride: int) -> None:
    (dense,) = traced(nn.Conv2d(16, 32, 5, stride=stride, padding=2))
    wanted = traced(
        nn.Conv2d(16, 16, (5, 1), stride=(stride, 1), padding=(2, 0)),
        nn.Conv2d(16, 32, (1, 5), stride=(1, stride), padding=(0, 2)),
    )
    assert figures(factorised_like(dense)) == figures(wanted)


def test_predictors_are_the_last_convolutions_before_outputs() -> None:
    network = Network()
    stem = network.conv(-1, 8, kernel=3, stride=2)
    box = network.conv(stem, 4, layer="head.boxes.output")
    act = network.elementwise("sigmoid", network.conv(stem, 2, layer="head.classes.output"))
    cost = network.cost(box, act)
    assert [cost.operations[each].layer for each in sorted(predictors(cost))] == [
        "head.boxes.output",
        "head.classes.output",
    ]


def test_depth_is_that_of_the_longest_way() -> None:
    network = Network()
    stem = network.conv(-1, 8)
    long = network.conv(network.conv(stem, 8), 8)
    cost = network.cost(network.elementwise("add", long, network.conv(stem, 8)))
    assert longest_path(cost, [index for index, _ in convolutions(cost)]) == 3


@pytest.mark.parametrize(
    ("layer", "part"),
    [
        ("backbone.layers.stem", "backbone"),
        ("model.neck.levels.0", "neck"),
        ("roi_head.hidden", ""),
    ],
)
def test_parts_of_a_detector(layer: str, part: str) -> None:
    network = Network()
    network.conv(-1, 8, layer=layer)
    assert part_of(network.operations[0]) == part
