"""Operations put together: everything is in one part, and in the right one."""

from __future__ import annotations

import pytest
import torch

from flyweight.models.detectors.zoo import build
from flyweight.profiling.breakdown import GROUPINGS, by_layer, by_operator, by_stage
from flyweight.profiling.operation import NetworkCost
from flyweight.profiling.trace import trace_detector


@pytest.fixture(scope="module")
def cost() -> NetworkCost:
    with torch.device("meta"):
        return trace_detector(build("retinanet_snet", classes=["card"], size=128))


@pytest.mark.parametrize("name", GROUPINGS)
def test_parts_add_up_to_the_network(cost: NetworkCost, name: str) -> None:
    parts = GROUPINGS[name](cost)
    assert sorted(place for part in parts for place in part.places) == list(
        range(len(cost.operations))
    )
    for field in ("params", "macs", "access_bytes"):
        assert sum(part.total(field) for part in parts) == getattr(cost, field)
    assert max(part.peak_activation_bytes for part in parts) == cost.peak_activation_bytes


def test_stages_are_strides_neck_and_heads(cost: NetworkCost) -> None:
    parts = {part.name: part for part in by_stage(cost)}
    levels = [f"backbone C{level}" for level in range(1, 6)]
    assert list(parts) == [*levels, "neck", "head.classification", "head.regression"]
    for place, name in enumerate(levels):
        sides = {each.output_shape[2] for each in parts[name].operations}
        assert sides == {128 // 2 ** (place + 1)}


def test_a_gate_belongs_to_the_stage_around_it() -> None:
    with torch.device("meta"):
        detector = build("ssdlite320_mobilenet_v3_small", classes=["card"], size=64)
    stages = by_stage(trace_detector(detector))
    assert [part.name for part in stages][:5] == [f"backbone C{level}" for level in range(1, 6)]
    first = next(part for part in stages if part.name == "backbone C2")
    assert any(each.kind == "global_avg_pool" for each in first.operations)


def test_a_layer_on_several_levels_is_one_row(cost: NetworkCost) -> None:
    layers = {part.name: part.to_dict() for part in by_layer(cost)}
    tower = layers["head.regression.tower.0.conv"]
    assert tower["calls"] == 4
    assert tower["output_shape"] == [1, 256, 8, 8]
    assert tower["stride"] == 16
    assert tower["params"] == 128 * 256
    assert tower["macs"] == 128 * 256 * (64 + 16 + 4 + 1)


def test_depthwise_convolutions_are_a_kind(cost: NetworkCost) -> None:
    kinds = {part.name: part for part in by_operator(cost)}
    assert all(each.depthwise for each in kinds["conv2d, depthwise"].operations)
    assert not any(each.depthwise for each in kinds["conv2d"].operations)
    assert kinds["relu"].to_dict()["params"] == 0
    assert kinds["relu"].intensity == pytest.approx(1 / 8)
