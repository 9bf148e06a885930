"""The benchmark behind `docs/light_networks.md`: what it builds, keeps and writes.

Milliseconds are the machine's; MACs and bytes are held against the papers.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CELLS = 56 * 56
FLOAT_BYTES = 4


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script as a module, with the questions beside it."""
    before = set(sys.modules)
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("light_networks")
    sys.path.remove(str(ROOT / "benchmarks"))
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("light_networks", "questions", "machine"):
            del sys.modules[name]


def question(name: str) -> Any:
    return sys.modules[f"questions.{name}"]


def costs(name: str) -> dict[str, Any]:
    return {each.name: each.cost for each in question(name).candidates()}


def timed(candidates: list[Any], **times: float) -> dict[str, Any]:
    """A result as `time_candidates` makes it, all networks equally quick."""
    return {
        "threads": 2,
        "rows": [
            {
                "name": each.name,
                **each.facts,
                "mmacs": each.cost.macs / 1e6,
                "access_mb": each.cost.access_bytes / 1e6,
                "times": {
                    runtime: {"ms": value, "spread": 0.1, "runs": 9, "disturbed": False}
                    for runtime, value in times.items()
                },
            }
            for each in candidates
        ],
    }


@pytest.mark.parametrize("widths", [(32, 32), (16, 64), (8, 128), (13, 78), (36, 432)])
def test_channel_ratios_cost_what_equation_1_says(
    script: ModuleType, widths: tuple[int, int]
) -> None:
    """ShuffleNetV2, section 2: MACs hwc1c2, memory access hw(c1 + c2) + c1c2; biases beside it."""
    first, second = widths
    cost = costs("channel_ratio")[f"{first}-{second}"]
    assert cost.macs == 20 * CELLS * first * second
    values = 20 * (CELLS * (first + second) + first * second) + 10 * (first + second)
    assert cost.access_bytes == FLOAT_BYTES * values


def test_groups_cost_what_equation_2_says(script: ModuleType) -> None:
    """Memory access hw(c1 + c2) + c1c2 / g, MACs hwc1c2 / g."""
    for name, cost in costs("groups").items():
        groups, channels = (int(word.split()[0]) for word in name.split(", "))
        assert cost.macs == 10 * CELLS * channels**2 // groups
        values = 10 * (2 * CELLS * channels + channels**2 // groups + channels)
        assert cost.access_bytes == FLOAT_BYTES * values
        if groups < channels:
            assert channels // groups % 8 == 0


def test_fragments_have_the_macs_of_one(script: ModuleType) -> None:
    """Up to the next multiple of 8 (table 3 keeps FLOPs)."""
    found = costs("fragmentation")
    for name, cost in found.items():
        width = int(name.rpartition(" ")[2])
        assert cost.macs == pytest.approx(10 * CELLS * width**2, rel=0.13)
    kinds = [each.kind for each in found["4 in parallel, 64"].operations]
    assert (kinds.count("conv2d"), kinds.count("add")) == (40, 30)


def test_bottlenecks_lose_only_elementwise_work(script: ModuleType) -> None:
    """ResNet's unit with c channels and c / 4 inside: 2·c²/4 + 9·c²/16 MACs a cell."""
    found = costs("elementwise")
    for width in (32, 64, 128):
        whole = found[f"ReLU, shortcut, {width}"]
        bare = found[f"none, no shortcut, {width}"]
        assert whole.macs == bare.macs == 10 * CELLS * width**2 * 17 // 16
        kinds = [each.kind for each in whole.operations]
        assert (kinds.count("relu"), kinds.count("add")) == (30, 10)
        assert {each.kind for each in bare.operations} == {"conv2d"}


def test_separating_saves_what_mobilenets_equation_5_says(script: ModuleType) -> None:
    found = costs("depthwise")
    for channels, side in question("depthwise").STAGES:
        full = found[f"full 3×3, {channels} channels"].macs
        assert full == 4 * 9 * side**2 * channels**2 == 4 * 462_422_016
        separable = found[f"separable, {channels} channels"].macs
        assert separable / full == pytest.approx(1 / channels + 1 / 9)


def test_what_sees_as_much_as_5_by_5_has_fewer_macs(script: ModuleType) -> None:
    """10, 18 and 9 weights a pair of channels instead of 25 (Inception-v3, sections 3.1, 3.2)."""
    found = costs("kernels")
    for name, cost in found.items():
        kind, _, channels = name.rpartition(", ")
        full = found[f"5×5, {channels}"]
        weights = {"5×5": 25, "5×1, 1×5": 10, "3×3, 3×3": 18, "3×3, dilation 2": 9}[kind]
        assert cost.macs * 25 == full.macs * weights
        assert cost.operations[-1].output_shape == full.operations[-1].output_shape
        assert cost.operations[-1].receptive_field == full.operations[-1].receptive_field


def test_widths_and_sizes_have_the_published_macs(script: ModuleType) -> None:
    """MobileNets, tables 6 and 7; MobileNetV2's table of weights."""
    sweep = question("width_and_resolution")
    found = {tuple(each.facts.values()): each.cost.macs / 1e6 for each in sweep.candidates()}
    for key, published in sweep.PAPERS.items():
        assert found[key] == pytest.approx(published, abs=1.01), key


def test_gates_and_h_swish_are_gone_from_mobilenet_v3(script: ModuleType) -> None:
    timing, activations = question("timing"), question("activations")
    kinds = {}
    for gates, swish in activations.V3_VARIANTS:
        cost = timing.picture_cost(activations.mobilenet_v3(gates, swish), 64)
        kinds[gates, swish] = {each.kind for each in cost.operations}
    # a gate is a mean, a sigmoid and a product
    gate = {"global_avg_pool", "hardsigmoid", "mul"}
    assert kinds[True, True] == kinds[False, False] | gate | {"hardswish"}
    assert kinds[True, False] == kinds[False, False] | gate
    assert kinds[False, False] == {"conv2d", "relu", "add"}


def test_int8_is_written_around_every_convolution(script: ModuleType) -> None:
    import onnx
    from torch import nn

    from flyweight.profiling.probe_onnx import to_onnx

    timing, graphs = question("timing"), question("graphs")
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 1)
    )
    cost = timing.picture_cost(network, 16)
    model = graphs.quantised(onnx.load_from_string(to_onnx(cost)))
    producers = {name: node.op_type for node in model.graph.node for name in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2
    for node in convolutions:
        assert {producers[name] for name in node.input} == {"DequantizeLinear"}
    run = graphs.open_graph(model.SerializeToString(), runtime="onnxruntime", threads=1)
    assert run()[0].shape == (1, 8, 16, 16)


def test_time_a_mac_is_relative_to_equal_channels(script: ModuleType) -> None:
    """All take 2 ms, so what has fewer MACs takes longer a MAC: 22·44 is 0.945 of 32²."""
    ratio = question("channel_ratio")
    tables = ratio.tables(timed(ratio.candidates(), onnxruntime=2.0))
    line = next(each for each in tables["g1_paper"].splitlines() if each.startswith("| 22, 44"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == "1:2"
    assert cells[3] == "1.06 / 1.06 / 1.06"
    assert cells[4] == "1.05 / 1.06 / 1.04"  # 76.2 / 72.9, 21.7 / 20.5, 5.3 / 5.1


def test_a_runtime_measured_alone_is_kept_beside_the_others(script: ModuleType) -> None:
    old = {
        "threads": 2,
        "rows": [{"name": "a", "mmacs": 1.0, "times": {"torch": 1, "openvino": 2}}],
    }
    new = {"threads": 2, "rows": [{"name": "a", "mmacs": 1.0, "times": {"torch": 3}}]}
    assert script.merged(old, new)["rows"][0]["times"] == {"torch": 3, "openvino": 2}
    changed = {"threads": 2, "rows": [{"name": "a", "mmacs": 2.0, "times": {"torch": 3}}]}
    assert script.merged(old, changed)["rows"][0]["times"] == {"torch": 3}
    assert script.merged(old, new | {"threads": 1})["rows"][0]["times"] == {"torch": 3}


def test_what_others_disturbed_is_said_to_be_preliminary(script: ModuleType) -> None:
    times = {"torch": {"disturbed": True}, "openvino": {"disturbed": False}}
    assert script.disturbance({"rows": [{"times": times}]}).startswith("*1 of these 2 times")
    assert script.disturbance({"rows": [{"times": {"torch": {"disturbed": False}}}]}) == ""


def test_tables_go_to_their_places(script: ModuleType) -> None:
    text = "a\n<!-- table: one -->\nold\n<!-- end -->\nb\n<!-- table: two -->\nkept\n<!-- end -->\n"
    filled = script.fill(text, {"one": "| new |"})
    assert filled == text.replace("\nold\n", "\n\n| new |\n\n")
    assert script.fill(filled, {"one": "| new |"}) == filled


def test_the_article_shows_what_was_measured(script: ModuleType) -> None:
    """Every table has its one place, and nobody typed a figure into one."""
    tables = script.tables()
    text = script.ARTICLE.read_text(encoding="utf-8")
    places = [name for _, name, _ in script.PLACE.findall(text)]
    assert len(places) == len(set(places))
    assert set(tables) <= set(places)
    assert script.fill(text, tables) == text, "python benchmarks/light_networks.py --write"
    for name in script.QUESTIONS:
        assert f"python benchmarks/light_networks.py {name}\n" in text
