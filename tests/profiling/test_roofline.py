"""Points under a roof of 100 GFLOP/s and 20 GB/s, by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from flyweight.core.errors import CheckError, InputError
from flyweight.profiling.ceilings import Ceilings
from flyweight.profiling.draft import INPUT, Draft
from flyweight.profiling.roofline import (
    COMPUTE,
    MEMORY,
    longest,
    measured_roofline,
    roofline,
    roofline_chart,
    why_above,
)

CEILINGS = Ceilings({"fp32": 100.0, "int8": 300.0}, 20.0, 2)
TIMES = {"0.conv2d": 0.1, "2.conv2d": 0.2}


def network() -> Draft:
    """A pointwise convolution of 64 channels with its activation, and a depthwise one."""
    made = Draft((1, 64, 32, 32))
    x = made.conv(INPUT, 64, act="relu")
    made.depthwise(x)
    return made


def test_points_by_hand() -> None:
    first, second = roofline(
        network().cost("two"), {"0.conv2d": 0.1, "2.conv2d": 0.2}, CEILINGS, runtime="openvino"
    )
    # 64 · 64 · 1024 pairs, and the activation's 64 · 1024; weights, biases, one map in, one out
    operations = 2 * 64 * 64 * 1024 + 64 * 1024
    moved = 4 * (64 * 64 + 64) + 2 * 4 * 64 * 1024
    assert (first.operations, first.moved_bytes) == (operations, moved)
    assert first.intensity == pytest.approx(15.63, abs=0.01)
    assert (first.bound, first.attainable_gflops) == (COMPUTE, 100.0)
    assert first.gflops == pytest.approx(operations / 1e-4 / 1e9)
    assert first.share == pytest.approx(0.8454, abs=1e-4)
    # 9 · 64 · 1024 pairs over nearly the same bytes
    assert second.operations == 2 * 9 * 64 * 1024
    assert second.moved_bytes == 4 * (9 * 64 + 64) + 2 * 4 * 64 * 1024
    assert second.bound == MEMORY
    assert second.attainable_gflops == pytest.approx(20 * second.intensity)


def test_a_sum_that_runs_inside_reads_its_other_term() -> None:
    made = Draft((1, 8, 10, 10))
    made.add("add", [INPUT, made.conv(INPUT, 8)])
    cost = made.cost("residual")
    [inside] = roofline(cost, {"0.conv2d": 0.1}, CEILINGS, runtime="openvino")
    assert inside.moved_bytes == cost.operations[0].access_bytes + 4 * 8 * 100
    assert inside.operations == 2 * cost.operations[0].macs + 8 * 100


def test_without_fusion_the_activation_is_a_layer_of_its_own() -> None:
    times = {"0.conv2d": 0.1, "1.relu": 0.05, "2.conv2d": 0.2}
    kinds = [each.kind for each in roofline(network().cost("n"), times, CEILINGS, runtime="torch")]
    assert kinds == ["conv2d", "relu", "conv2d, depthwise"]


def test_int8_moves_a_quarter_of_the_bytes() -> None:
    times = {"0.conv2d": 0.1}
    [single] = roofline(network().cost("n"), times, CEILINGS, runtime="openvino")
    [integer] = roofline(network().cost("n"), times, CEILINGS, runtime="openvino", precision="int8")
    assert integer.moved_bytes == single.moved_bytes / 4
    assert integer.attainable_gflops == 300.0


def test_times_of_another_network_are_refused() -> None:
    with pytest.raises(InputError, match="no layer"):
        roofline(network().cost("n"), {"other": 1.0}, CEILINGS, runtime="openvino")


def test_the_chart_numbers_the_longest_layers() -> None:
    ceilings = replace(CEILINGS, gflops=CEILINGS.gflops | {"bf16": 0.2})
    points = roofline(network().cost("n"), TIMES, ceilings, runtime="openvino")
    assert [point.layer for point in longest(points, 1)] == ["2.conv2d"]
    svg = roofline_chart(points, ceilings, named=2)
    texts = {"".join(each.itertext()) for each in ElementTree.fromstring(svg).iter()}
    assert {"1", "2", "20.0 GB/s", "fp32 100 GFLOP/s", "int8 300 GFLOP/s"} <= texts
    assert "conv2d, depthwise" in texts
    assert not any(text.startswith("bf16") for text in texts)


def test_numbers_of_layers_in_one_place_stand_together() -> None:
    [point] = roofline(network().cost("n"), {"0.conv2d": 0.1}, CEILINGS, runtime="openvino")
    svg = roofline_chart([point, replace(point, layer="other"), point], CEILINGS, named=2)
    assert "1, 2" in {"".join(each.itertext()) for each in ElementTree.fromstring(svg).iter()}


def measuring(*found: Ceilings) -> Callable[[], Ceilings]:
    """Gives `found` one after the other."""
    told = iter(found)
    return lambda: next(told)


def test_ceilings_that_a_layer_disproves_are_measured_again() -> None:
    # the first layer reaches 85 GFLOP/s, which a machine of 16.5 cannot
    low = Ceilings({"fp32": 16.5}, 30.0, 2, disturbed=True)
    found, points = measured_roofline(
        network().cost("n"), TIMES, measuring(low, low, CEILINGS), runtime="openvino"
    )
    assert found == Ceilings({"fp32": 100.0, "int8": 300.0}, 30.0, 2)
    assert all(point.share < 1 for point in points)


def test_no_roof_is_drawn_from_nonsense() -> None:
    none = Ceilings({"fp32": 0.007, "int8": 16.5}, 1.7, 2, disturbed=True)
    with pytest.raises(CheckError, match=r"0.conv2d reached 85 GFLOP/s.* 0.0: .*measure again"):
        measured_roofline(
            network().cost("n"), TIMES, measuring(none, none, none), runtime="openvino"
        )


def test_what_is_above_the_roof_is_told() -> None:
    slow = Ceilings({"fp32": 60.0}, 2.0, 2)  # a bend at 30 operations a byte
    found, points = measured_roofline(
        network().cost("n"), TIMES, measuring(slow, slow, slow), runtime="openvino"
    )
    assert found == slow
    [memory] = why_above(points)
    assert memory.startswith("2 layers are above the roof of memory, 0.conv2d the most (270 %): ")
    low = replace(slow, bandwidth_gbs=20.0)
    [arithmetic] = why_above(roofline(network().cost("n"), TIMES, low, runtime="openvino"))
    assert arithmetic.startswith("1 layer is above the roof of arithmetic, 0.conv2d")
    assert why_above(roofline(network().cost("n"), TIMES, CEILINGS, runtime="openvino")) == []
