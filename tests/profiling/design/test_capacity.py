"""The proxy: its exponent against published tables, its factors against hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest

from flyweight.models.backbones import BACKBONES
from flyweight.models.backbones.description import describe_backbone
from flyweight.profiling.design.capacity import (
    BEYOND,
    PUBLISHED,
    SCALING,
    capacity,
    expected_accuracy,
    visibility,
)
from flyweight.profiling.operation import NetworkCost
from tests.profiling.advice.hand_made import Network

# (MMACs, top-1 in percent) of one network at several widths or resolutions.
TABLES = {
    # Howard et al. 2017, tables 6 and 7
    "MobileNetV1, width": [(569, 70.6), (325, 68.4), (149, 63.7), (41, 50.6)],
    "MobileNetV1, resolution": [(569, 70.6), (418, 69.1), (290, 67.2), (186, 64.4)],
    # Sandler et al. 2018 and its published models
    "MobileNetV2, width": [(582, 75.0), (300, 71.8), (209, 69.8), (97, 65.4), (59, 60.3)],
    "MobileNetV2, resolution": [(300, 71.8), (221, 70.7), (154, 68.8), (99, 65.3)],
    # Ma et al. 2018, table 8
    "ShuffleNetV2, width": [(591, 74.9), (299, 72.6), (146, 69.4), (41, 60.3)],
}


def slope(rows: list[tuple[float, float]]) -> float:
    macs, top1 = np.array(rows).T
    return float(-np.polyfit(np.log(macs), np.log(100 - top1), 1)[0])


def test_errors_fall_as_the_published_tables_say() -> None:
    slopes = [slope([(float(a), b) for a, b in rows]) for rows in TABLES.values()]
    assert np.mean(slopes) == pytest.approx(SCALING, abs=0.015)
    assert all(each == pytest.approx(SCALING, abs=0.05) for each in slopes)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_macs_are_those_of_our_backbones(name: str) -> None:
    assert name in BACKBONES
    if not name.startswith("snet"):  # whose figures are ShuffleNetV2's
        assert describe_backbone(name).macs / 1e6 == pytest.approx(PUBLISHED[name].mmacs, rel=0.06)


def detector(*, stride: int = 16, wide: int = 16) -> NetworkCost:
    network = Network(512)
    stem = network.conv(-1, 16, kernel=3, stride=stride)
    neck = network.conv(stem, wide, kernel=3, layer="neck.smooth")
    return network.cost(network.conv(neck, 8, layer="head.output"))


def test_at_its_published_macs_a_backbone_has_its_published_accuracy() -> None:
    cost = detector()
    inside = cost.operations[0].macs
    known = PUBLISHED["ghostnet"]
    alone = NetworkCost("backbone", cost.input_shape, cost.operations[:1])
    scale = inside / (known.mmacs * 1e6)
    wanted = 1 - (1 - known.top1 / 100) * scale**-SCALING
    assert wanted > 0
    assert expected_accuracy(alone, "ghostnet") == pytest.approx(wanted)


def test_multiplications_of_the_neck_count_half() -> None:
    few, many = detector(wide=16), detector(wide=64)

    def error(cost: NetworkCost) -> float:
        return float(np.log(1 - expected_accuracy(cost, "ghostnet")))

    assert error(few) < 0  # it is not at its floor, where nothing is left to compare
    ratio = np.log(many.macs / few.macs)
    assert error(few) - error(many) == pytest.approx(SCALING * BEYOND * ratio)


def test_objects_of_two_cells_count_whole_and_of_half_a_cell_not_at_all() -> None:
    sides = np.array([4.0, 8.0, 16.0, 32.0, 64.0])
    assert visibility(sides, 16).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_objects_larger_than_the_field_count_by_what_is_seen() -> None:
    cost = detector()
    field = cost.operations[-1].receptive_field
    assert field == 3 + 2 * 16
    able = capacity(cost, "ghostnet", np.array([70.0, 32.0]))
    assert able.contained == pytest.approx((35 / 70 + 1) / 2)
    assert able.visible == 1.0
    assert able.value == pytest.approx(able.accuracy * able.contained)


def test_without_objects_only_the_network_counts() -> None:
    able = capacity(detector(), "ghostnet", np.zeros(0))
    assert (able.visible, able.contained) == (1.0, 1.0)
