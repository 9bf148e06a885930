"""The page of a profile: well formed, whole, self-contained, and drawn to scale."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from flyweight.models.detectors.zoo import build
from flyweight.profiling.breakdown import by_layer, by_stage
from flyweight.profiling.level_view import LevelView, level_views
from flyweight.profiling.operation import NetworkCost
from flyweight.profiling.profile_charts import Bar, field_drawing, part_colours, stacked_bars
from flyweight.profiling.profile_report import Scene, stage_times, write_profile_page
from flyweight.profiling.trace import trace_detector
from flyweight.reports.page import Section
from tests.html_page import Page, refers_outside


@pytest.fixture(scope="module")
def profiled() -> tuple[NetworkCost, list[LevelView]]:
    with torch.device("meta"):
        detector = build("retinanet_snet", classes=["card"], size=128)
    cost = trace_detector(detector)
    return cost, level_views(detector, cost)


def numbers(svg: str, tag: str, *names: str) -> list[tuple[float, ...]]:
    """Attributes of the elements `tag`."""
    found = []
    for element in re.findall(rf"<{tag}[^>]*>", svg):
        values = [re.search(rf' {name}="([-\d.]+)"', element) for name in names]
        if all(values):
            found.append(tuple(float(value[1]) for value in values if value))
    return found


def test_page(profiled: tuple[NetworkCost, list[LevelView]], tmp_path: Path) -> None:
    cost, levels = profiled
    picture = np.zeros((128, 128, 3), np.uint8)
    path = tmp_path / "profile.html"
    write_profile_page(
        path,
        cost,
        levels=levels,
        scene=Scene(picture, np.array([[10.0, 10], [20, 20], [40, 40]])),
        times={"onnxruntime": {"backbone.layers.stem.conv": 1.5, "neck": 0.5}},
        sections=[Section("Roofline", "<p>here</p>")],
    )
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not refers_outside(text)
    # Every layer, every level over the picture, what was given.
    words = set(page.text)
    assert {part.name for part in by_layer(cost)} <= words
    assert len(page.all("image")) == len(levels) == 4
    assert "Roofline" in words
    assert {"2.00 ms", "onnxruntime, ms", "1.500"} <= words
    assert any("Half of the objects have sides below 20 pixels" in word for word in words)


def test_page_without_pictures_and_times(
    profiled: tuple[NetworkCost, list[LevelView]], tmp_path: Path
) -> None:
    write_profile_page(tmp_path / "profile.html", profiled[0])
    page = Page((tmp_path / "profile.html").read_text(encoding="utf-8"))
    assert "What each level sees" not in page.text
    assert "Layers" in page.text


def test_bars_are_as_long_as_their_shares() -> None:
    drawn = stacked_bars([Bar("MACs", "10 M", [0.5, 0.25, 0.25])], ["backbone C1", "neck", "head"])
    assert re.findall(r"flex:0 0 ([\d.]+)%", drawn) == ["50.00", "25.00", "25.00"]
    assert re.findall(r'title="(.*?)"', drawn) == [
        "backbone C1: 50.0 %", "neck: 25.0 %", "head: 25.0 %",
    ]  # fmt: skip


def test_parts_have_colours_of_their_own() -> None:
    stages = [f"backbone C{level}" for level in range(6)]
    colours = part_colours([*stages, "neck", "head.classification", "head.regression"])
    assert len(set(colours)) == 9


def test_fields_and_anchors_are_to_scale() -> None:
    level = LevelView("output", 32, (4, 4), 90, 40, ((32.0, 16.0), (64.0, 64.0)))
    svg = field_drawing(level, size_hw=(128, 128), object_sides=[20])
    boxes = numbers(svg, "rect", "x", "y", "width", "height")
    (ground, *drawn) = boxes
    assert ground == (0, 0, 128, 128)
    sizes = [box[2:] for box in drawn]
    assert sizes == [(90, 90), (40, 40), (20, 20), (32, 16), (64, 64), (32, 32)]
    # All around the middle of the cell in the third row and column.
    assert {(x + w / 2, y + h / 2) for x, y, w, h in drawn} == {(80, 80)}


def test_times_go_to_the_stage_of_their_layer(
    profiled: tuple[NetworkCost, list[LevelView]],
) -> None:
    parts = by_stage(profiled[0])
    times = {
        "backbone.layers.stem.conv": 1.0,
        "head.regression.tower.0.conv": 2.0,
        "head.regression": 4.0,  # no name of a layer's own, but of what is around some
        "neck": 8.0,
        "": 16.0,
        "elsewhere": 32.0,
    }
    spent = {part.name: time for part, time in zip(parts, stage_times(parts, times), strict=True)}
    assert spent["backbone C1"] == 1.0
    assert spent["head.regression"] == 6.0
    assert spent["neck"] == 8.0
    assert sum(spent.values()) == 15.0
