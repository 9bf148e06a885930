"""A profile as a page to look at: one HTML file, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flyweight.profiling.breakdown import Part, by_layer, by_operator, by_stage
from flyweight.profiling.level_view import LevelView
from flyweight.profiling.operation import NetworkCost
from flyweight.profiling.profile_charts import (
    Bar,
    Image,
    field_drawing,
    field_key,
    palette_key,
    stacked_bars,
)
from flyweight.profiling.quantity import megabytes, milliseconds, quantity, shape
from flyweight.reports.charts import Line, line_chart
from flyweight.reports.page import (
    Report,
    Section,
    charts,
    colour_key,
    table,
    write_report,
)

# Of the sides of objects.
QUANTILES = (0.1, 0.5, 0.9)
# Operations that are named for the memory in use.
LARGEST = 6
Times = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Scene:
    """What the levels are drawn over.

    Attributes:
        picture: RGB uint8 `[H, W, 3]`, as large as the network's input; None for a plain one.
        objects_wh: (width, height) `[G, 2]` of a data set's objects, pixels of the input.
    """

    picture: Image | None = None
    objects_wh: np.ndarray | None = None

    @property
    def object_sides(self) -> list[float]:
        """The QUANTILES of √(w·h)."""
        if self.objects_wh is None or len(self.objects_wh) == 0:
            return []
        return [float(side) for side in np.quantile(np.sqrt(self.objects_wh.prod(1)), QUANTILES)]


def write_profile_page(
    path: Path,
    cost: NetworkCost,
    *,
    levels: Sequence[LevelView] = (),
    scene: Scene | None = None,
    times: Times | None = None,
    sections: Sequence[Section] = (),
) -> None:
    """Write the page.

    Args:
        levels: of the detector's head.
        scene: what they are drawn over; a plain picture if None.
        times: of each way of timing, such as "onnxruntime", milliseconds of each layer.
        sections: of other parts of the design lab, between what is seen and the tables.

    Raises:
        InputError: the file cannot be written.
    """
    height, width = cost.input_shape[2:]
    figures = [
        (quantity(cost.params), "parameters"),
        (quantity(cost.macs), "multiply-accumulate pairs"),
        (megabytes(cost.access_bytes), "read and written"),
        (megabytes(cost.peak_activation_bytes), "activations at the peak"),
        *((milliseconds(sum(each.values())), name) for name, each in (times or {}).items()),
    ]
    seen = [_levels_section(levels, (height, width), scene or Scene())] if levels else []
    report = Report(
        title=cost.name,
        subtitle=f"What it costs at {height}×{width} pixels, {cost.input_shape[0]} "
        f"image{'s' if cost.input_shape[0] > 1 else ''} at a time, in float32",
        figures=figures,
        sections=[
            _stage_section(cost, times or {}),
            _memory_section(cost),
            *seen,
            *sections,
            _operator_section(cost),
            _layer_section(cost, times or {}),
        ],
    )
    write_report(report, path)


def _stage_section(cost: NetworkCost, times: Times) -> Section:
    parts = by_stage(cost)
    names = [part.name for part in parts]
    bars = [
        Bar("Parameters", quantity(cost.params), _shares(parts, "params")),
        Bar("MACs", quantity(cost.macs), _shares(parts, "macs")),
        Bar("Memory access", megabytes(cost.access_bytes), _shares(parts, "access_bytes")),
    ]
    for name, of_layer in times.items():
        spent = stage_times(parts, of_layer)
        whole = sum(spent) or 1.0
        bars.append(Bar("Time", f"{milliseconds(whole)}, {name}", [each / whole for each in spent]))
    columns = ("parameters", "MACs", "access", "in use", "intensity", "stride", "field")
    body = colour_key(palette_key(names)) + stacked_bars(bars, names) + _part_table(parts, columns)
    return Section(
        "Where the cost is",
        body,
        "Stages of the backbone by their stride: C1 has a cell every 2 pixels, C5 every 32. "
        "Memory access counts every byte that an operator reads or writes, weights too, as if "
        "nothing stayed in a cache.",
    )


def stage_times(parts: Sequence[Part], of_layer: Mapping[str, float]) -> list[float]:
    """Milliseconds of each part, from those of layers.

    A name that is no layer's own belongs to the first layer within it, or else is left out.
    """
    spent = [0.0] * len(parts)
    for name, time in of_layer.items():
        within = [name in part.layers for part in parts]
        if not any(within):
            within = [any(each.startswith(f"{name}.") for each in part.layers) for part in parts]
        if any(within) and name:
            spent[within.index(True)] += time
    return spent


def _memory_section(cost: NetworkCost) -> Section:
    live = [each.live_bytes / 1e6 for each in cost.operations]
    order = sorted(range(len(live)), key=lambda place: -live[place])
    peak = order[0]
    chart = line_chart(
        [Line("activations", np.arange(len(live)), live)],
        title="Megabytes in use while each operation runs",
        x_label="operation, in the order of the pass",
        marked_x=peak,
        # At the left there is no room for it.
        marked_label="peak" if peak > 0.15 * len(live) else "",
    )
    rows = [
        [cost.operations[place].layer, str(place), megabytes(cost.operations[place].live_bytes)]
        for place in order[:LARGEST]
    ]
    return Section(
        "Activation memory",
        charts([chart, table(["most in use in", "operation", ""], rows)]),
        f"At most {megabytes(cost.peak_activation_bytes)}, while {cost.operations[peak].layer} "
        "runs. A tensor is there from the operation that makes it to the last that reads it; the "
        "input counts, weights do not.",
    )


def _levels_section(levels: Sequence[LevelView], size_hw: tuple[int, int], scene: Scene) -> Section:
    sides = scene.object_sides
    drawings = [
        field_drawing(level, size_hw=size_hw, picture=scene.picture, object_sides=sides)
        for level in levels
    ]
    effective = any(level.effective_field is not None for level in levels)
    key = colour_key(field_key(effective=effective, objects=bool(sides)))
    note = (
        "The middle cell of each level, its anchors and its receptive field, to scale; what is "
        "larger than the frame is cut off. An anchor larger than the field is not seen whole."
    )
    if sides:
        low, middle, high = (round(side) for side in sides)
        note += f" Half of the objects have sides below {middle} pixels, 80 % {low} to {high}."
    return Section(
        "What each level sees", key + f'<div class="pairs small">{"".join(drawings)}</div>', note
    )


def _operator_section(cost: NetworkCost) -> Section:
    parts = sorted(by_operator(cost), key=lambda part: -part.total("access_bytes"))
    return Section(
        "Kinds of operators",
        _part_table(parts, ("runs", "parameters", "MACs", "access", "in use", "intensity")),
        "By what they read and write: element-wise operators have few operations and are not free.",
    )


def _layer_section(cost: NetworkCost, times: Times) -> Section:
    columns = ("output", "parameters", "MACs", "access", "in use", "intensity", "stride", "field")
    return Section(
        "Layers",
        _part_table(by_layer(cost), columns, bars=False, times=times),
        "In the order of the pass. A layer that runs on several levels stands once, with the shape "
        "on the finest. Intensity: floating point operations a byte; what has little waits for "
        "memory.",
    )


def _part_table(
    parts: Sequence[Part], columns: Sequence[str], *, bars: bool = True, times: Times | None = None
) -> str:
    """A row a part, with some of COLUMNS and the milliseconds of `times`."""
    timed = (times or {}).items()
    rows = []
    for part in parts:
        figures = part.to_dict()
        spent = (f"{each[part.name]:.3f}" if part.name in each else "–" for _, each in timed)
        rows.append([part.name, *spent, *(COLUMNS[name](figures) for name in columns)])
    shares = {"MACs": _shares(parts, "macs"), "access": _shares(parts, "access_bytes")}
    drawn = {columns.index(name) + 1 + len(timed): shares[name] for name in shares if bars}
    return table(["", *(f"{name}, ms" for name, _ in timed), *columns], rows, bars=drawn)


def _or_dash(value: int | None, unit: str = "") -> str:
    return "–" if value is None else f"{value}{unit}"


# How a table shows the figures of a part, `Part.to_dict`.
COLUMNS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "runs": lambda part: str(part["calls"]),
    "output": lambda part: shape(part["output_shape"]),
    "parameters": lambda part: quantity(part["params"]),
    "MACs": lambda part: quantity(part["macs"]),
    "access": lambda part: megabytes(part["memory_access_bytes"]),
    "in use": lambda part: megabytes(part["peak_activation_bytes"]),
    "intensity": lambda part: f"{part['intensity']:.1f}",
    "stride": lambda part: _or_dash(part["stride"]),
    "field": lambda part: _or_dash(part["receptive_field"], " px"),
}


def _shares(parts: Sequence[Part], field: str) -> list[float]:
    totals = [part.total(field) for part in parts]
    return [total / max(sum(totals), 1) for total in totals]
