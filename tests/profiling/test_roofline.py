"""Points under a roof of 100 GFLOP/s and 20 GB/s, by hand."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from flyweight.core.errors import InputError
from flyweight.profiling.ceilings import Ceilings, measure_ceilings
from flyweight.profiling.draft import INPUT, Draft
from flyweight.profiling.roofline import COMPUTE, MEMORY, roofline, roofline_chart

CEILINGS = Ceilings({"fp32": 100.0, "int8": 300.0}, 20.0, 2)


def test_the_roof() -> None:
    assert CEILINGS.ridge() == 5.0
    assert CEILINGS.ridge("int8") == 15.0
    assert CEILINGS.attainable_gflops(1.0) == 20.0
    assert CEILINGS.attainable_gflops(5.0) == 100.0
    assert CEILINGS.attainable_gflops(80.0) == 100.0
    assert CEILINGS.attainable_gflops(80.0, "int8") == 300.0
    with pytest.raises(InputError, match="bf16"):
        CEILINGS.ridge("bf16")


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


def test_the_chart_names_the_longest_layers() -> None:
    times = {"0.conv2d": 0.1, "2.conv2d": 0.2}
    points = roofline(network().cost("n"), times, CEILINGS, runtime="openvino")
    svg = roofline_chart(points, CEILINGS, named=1)
    ElementTree.fromstring(svg)
    assert "2.conv2d" in svg
    assert "0.conv2d" not in svg
    assert "20.0 GB/s" in svg
    assert "fp32 100 GFLOP/s" in svg


def test_a_machine_has_ceilings() -> None:
    found = measure_ceilings(threads=1, rounds=1)
    assert {"fp32", "int8"} <= found.gflops.keys()
    assert all(reached > 0.01 for reached in found.gflops.values())
    # between a tape and more than any memory gives a core
    assert 0.1 < found.bandwidth_gbs < 1000
