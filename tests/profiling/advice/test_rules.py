"""Each rule on a network made by hand that breaks it, and on one that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import sqrt

import pytest

from flyweight.core.errors import InputError
from flyweight.models.detectors.zoo import ZOO
from flyweight.profiling.advice.context import Context, Target
from flyweight.profiling.advice.depth import backbone_depth, depth
from flyweight.profiling.advice.elementwise import elementwise
from flyweight.profiling.advice.equal_channels import equal_channels, least_bytes
from flyweight.profiling.advice.first_layer import first_layer
from flyweight.profiling.advice.fragmentation import fragmentation
from flyweight.profiling.advice.grouping import grouping
from flyweight.profiling.advice.int8_activations import int8_activations
from flyweight.profiling.advice.kernels import factorised_kernels, separable_convolutions
from flyweight.profiling.advice.multiples_of_8 import multiples_of_8
from flyweight.profiling.advice.receptive_field import receptive_field
from flyweight.profiling.advice.rules import RULES, Rule, advise, rules_named
from flyweight.profiling.advice.strides import last_map, stride_schedule
from flyweight.profiling.operation import NetworkCost
from tests.profiling.advice.hand_made import BytesTakeTime, Network, names

Draw = Callable[[Network], None]


def sound(network: Network) -> None:
    """Nothing to say of it."""
    stem = network.conv(-1, 16, kernel=3, stride=4)
    same = network.conv(network.conv(stem, 16, kernel=3, stride=2, groups=16), 16)
    network.conv(same, 16)


def unequal(network: Network) -> None:
    stem = network.conv(-1, 8, kernel=3, stride=2)
    network.conv(network.conv(stem, 64, layer="wide"), 8, layer="narrow")


def grouped(network: Network) -> None:
    stem = network.conv(-1, 32, kernel=3, stride=4)
    network.conv(stem, 32, groups=4, layer="in_groups")


def fragmented(network: Network) -> None:
    stem = network.conv(-1, 16, kernel=3, stride=4)
    branches = [network.conv(stem, 16, kernel=3, layer=f"branch{each}") for each in range(4)]
    network.elementwise("concat", *branches, layer="join")


def standing_activations(network: Network) -> None:
    stem = network.conv(-1, 16, kernel=3, stride=4)
    network.elementwise("add", network.elementwise("hardswish", stem, layer="act"), stem, layer="+")


def odd_channels(network: Network) -> None:
    network.conv(network.conv(-1, 20, kernel=3, stride=4, layer="odd"), 16, layer="after")


def large_first_kernel(network: Network) -> None:
    network.conv(-1, 16, kernel=7, stride=2, layer="first")


def large_kernel(network: Network) -> None:
    network.conv(network.conv(-1, 16, kernel=3, stride=4), 16, kernel=5, layer="large")


def dense_backbone(network: Network) -> None:
    network.conv(network.conv(-1, 16, kernel=3, stride=4), 16, kernel=3, layer="backbone.dense")


def late_strides(network: Network) -> None:
    stem = network.conv(-1, 16, kernel=3, stride=1, layer="full_size")
    network.conv(network.conv(stem, 16, kernel=3, layer="full_size2"), 16, stride=8)


BROKEN = [
    (equal_channels, unequal, {"wide", "narrow"}),
    (grouping, grouped, {"in_groups"}),
    (fragmentation, fragmented, {"branch0", "branch1", "branch2", "branch3", "join"}),
    (elementwise, standing_activations, {"act", "+"}),
    (multiples_of_8, odd_channels, {"odd", "after"}),
    (first_layer, large_first_kernel, {"first"}),
    (factorised_kernels, large_kernel, {"large"}),
    (separable_convolutions, dense_backbone, {"backbone.dense"}),
    (stride_schedule, late_strides, {"full_size", "full_size2"}),
]


def made(draw: Draw) -> NetworkCost:
    network = Network()
    draw(network)
    return network.cost()


@pytest.mark.parametrize(
    ("rule", "draw", "layers"), BROKEN, ids=lambda each: getattr(each, "__name__", "")
)
def test_a_broken_rule_names_its_layers(rule: Rule, draw: Draw, layers: set[str]) -> None:
    (advice,) = rule(Context(made(draw), latency=BytesTakeTime()))
    assert set(advice.layers) == layers
    assert advice.saving.milliseconds is not None
    assert not advice.fields
    assert not advice.rebuilt


def test_a_sound_network_gets_no_advice() -> None:
    cost = made(sound)
    heavy_first = [each for each in advise(Context(cost)) if each.rule != "first_layer"]
    assert heavy_first == []


def test_two_branches_and_depthwise_layers_are_no_fault() -> None:
    network = Network()
    stem = network.conv(-1, 16, kernel=3, stride=4)
    left = network.conv(stem, 16, kernel=3, groups=16)
    network.elementwise("concat", left, network.conv(stem, 16))
    context = Context(network.cost())
    assert fragmentation(context) == []
    assert grouping(context) == []


def test_a_clamp_behind_a_convolution_costs_nothing() -> None:
    network = Network()
    stem = network.conv(-1, 16, kernel=3, stride=4)
    network.elementwise("relu6", stem)
    assert elementwise(Context(network.cost())) == []


def test_fewest_bytes_are_those_of_equal_channels() -> None:
    """ShuffleNetV2, equation 1: the bound is met where both sides are alike."""
    network = Network()
    stem = network.conv(-1, 32, stride=4)
    network.conv(stem, 32)
    same = network.operations[-1]
    assert same.access_bytes == pytest.approx(least_bytes(same))
    network.conv(stem, 128)
    wide = network.operations[-1]
    cells, macs = 16 * 16, 16 * 16 * 32 * 128
    assert least_bytes(wide) == pytest.approx(4 * (2 * sqrt(cells * macs) + macs / cells))
    assert wide.access_bytes > least_bytes(wide)


def test_price_of_equal_channels_is_that_of_the_layers_alone() -> None:
    cost = made(unequal)
    (advice,) = equal_channels(Context(cost, latency=BytesTakeTime()))
    # √(8·64) = 22.6, as a multiple of 8: 24; two layers, on 32×32 cells
    before = 2 * 4 * (1024 * (8 + 64) + 8 * 64)
    after = 2 * 4 * (1024 * 48 + 24 * 24)
    assert advice.saving.access_bytes == before - after
    assert advice.saving.milliseconds == pytest.approx((before - after) / 1e6)
    assert advice.saving.params == 2 * (8 * 64 - 24 * 24)


def test_price_of_standing_activations_is_all_they_move() -> None:
    (advice,) = elementwise(Context(made(standing_activations)))
    # 16 channels of 16×16: read and written once, then two read and one written
    assert advice.saving.access_bytes == (2 + 3) * 4 * 16 * 16 * 16
    assert advice.saving.macs == 0
    assert advice.saving.milliseconds is None


def test_price_of_branches_is_that_of_all_but_one() -> None:
    (advice,) = fragmentation(Context(made(fragmented)))
    assert advice.saving.params == 3 * 16 * 16 * 9


def test_grouped_convolutions_become_dense_at_their_macs() -> None:
    (advice,) = grouping(Context(made(grouped)))
    assert advice.saving.macs == 0
    assert advice.saving.access_bytes == 2 * 4 * 16 * 16 * (32 - 16)


def test_half_the_size_is_a_quarter_of_the_multiplications() -> None:
    (advice,) = stride_schedule(Context(made(late_strides)))
    assert advice.saving.macs == 0.75 * 64 * 64 * (3 * 16 * 9 + 16 * 16 * 9)


def test_int8_activations_only_where_int8_is_wanted() -> None:
    cost = made(standing_activations)
    assert int8_activations(Context(cost)) == []
    (advice,) = int8_activations(Context(cost, target=Target(precision="int8")))
    assert advice.layers == ("act",)


def test_a_gate_is_a_map_times_one_number_a_channel() -> None:
    network = Network()
    stem = network.conv(-1, 16, kernel=3, stride=4)
    gate = network.elementwise("hardsigmoid", network.conv(stem, 16, stride=16))
    network.elementwise("mul", stem, gate, layer="scaled")
    (advice,) = int8_activations(Context(network.cost(), target=Target(precision="int8")))
    assert advice.layers == ("scaled",)


def deep(layers: int) -> NetworkCost:
    network = Network()
    before = network.conv(-1, 8, kernel=3, stride=2)
    for _ in range(layers - 1):
        before = network.conv(network.conv(before, 8, kernel=3, groups=8), 8)
    return network.cost()


def test_depth_counts_a_depthwise_and_its_pointwise_convolution_as_one() -> None:
    assert backbone_depth(Context(deep(20))) == 20


@pytest.mark.parametrize(("layers", "classes", "found"), [(27, 1, 0), (28, 1, 1), (28, 20, 0)])
def test_depth_is_a_fault_where_the_task_is_simple(layers: int, classes: int, found: int) -> None:
    config = ZOO["ssdlite"](num_classes=classes)
    context = Context(deep(layers), config=config, cost_of=lambda _: deep(layers))
    assert len(depth(context)) == found


def two_levels(*, size: int, kernel: int) -> NetworkCost:
    network = Network(size)
    fine = network.conv(-1, 16, kernel=3, stride=16)
    coarse = network.conv(fine, 16, kernel=3, stride=2)
    ends = [
        network.conv(each, 8, kernel=kernel, layer=f"head.{name}.output")
        for each, name in ((fine, "fine"), (coarse, "coarse"))
    ]
    return network.cost(*ends)


@pytest.mark.parametrize(("size", "found"), [(64, 1), (96, 0), (288, 0), (320, 1)])
def test_the_last_map_has_3_to_9_cells(size: int, found: int) -> None:
    advice = last_map(Context(two_levels(size=size, kernel=3)))
    assert len(advice) == found
    assert all(each.layers == ("head.coarse.output",) for each in advice)


def test_anchors_larger_than_what_their_level_sees() -> None:
    # stride 16 sees 3 pixels and with a 3×3 behind 35; stride 32 sees 35, and 99
    config = replace(
        ZOO["yolov3"](num_classes=1),
        size_hw=(96, 96),
        anchors=(((30.0, 30.0),), ((90.0, 90.0),)),
    )
    context = Context(two_levels(size=96, kernel=3), config=config)
    assert receptive_field(context) == []
    (advice,) = receptive_field(replace(context, cost=two_levels(size=96, kernel=1)))
    assert advice.layers == ("head.fine.output", "head.coarse.output")
    assert advice.serves == "accuracy"


def test_rules_are_known_by_name() -> None:
    assert rules_named(["grouping", "depth"]) == (grouping, depth)
    assert len({rule.__name__ for rule in RULES}) == len(RULES)
    with pytest.raises(InputError, match="no rule 'speed'"):
        rules_named(["speed"])
    assert names(advise(Context(made(grouped)), rules=(grouping,))) == ["grouping"]
