"""The plot of `choosing.md`: AP on BCCD against MACs, and against milliseconds in OpenVINO.

python docs/_tools/pareto.py pareto.svg     # the site makes it anew whenever it is built
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyweight.profiling.design.pareto import pareto_front
from flyweight.reports.charts import INK, PALETTE, SOFT, STYLE, as_svg

TITLE = "AP against price on BCCD"
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
KINDS = ("SSD", "RetinaNet", "Faster R-CNN", "YOLO")
# where a label may stand beside its point, in the order of trying: x, y in points, alignment
PLACES = ((5, 7, "left"), (5, -8, "left"), (-5, 7, "right"), (-5, -8, "right"))


@dataclass(frozen=True)
class Point:
    """A trained detector: `price` in the axis' unit, `pretrained` from ImageNet weights."""

    label: str
    kind: str
    price: float
    ap: float
    pretrained: bool


def by_macs(results: Path) -> list[Point]:
    """Every detector that was trained on BCCD and reported on its `test` images."""
    points = [
        Point(
            f"{row['backbone']} {row['size']}" + (f" α {row['width']:g}" * (row["width"] != 1)),
            _kind(row["name"]),
            row["macs"] / 1e6,
            row["metrics"]["AP"],
            row["pretrained"] == "imagenet",
        )
        for row in _read(results, "detectors_bccd")["rows"]
    ]
    for row, run in _designed(results):
        points.append(Point(_candidate(row), "SSD", row["mmacs"], run["test"]["AP"], False))
    names = {"start": "mobilenet_v2 320, 100 epochs", "fine-tuned": "... pruned to half"}
    for stage, row in _stages(results).items():
        if stage in names:
            points.append(Point(names[stage], "SSD", row["macs"] / 1e6, row["AP"], True))
    return points


def by_milliseconds(results: Path) -> list[Point]:
    """Those that were timed in OpenVINO on two cores."""
    names = {
        "start": "mobilenet_v2 320",
        "fine-tuned": "... pruned to half",
        "int8": "... pruned, int8",
    }
    points = [
        Point(names[stage], "SSD", row["runtimes"]["openvino"], row["AP"], True)
        for stage, row in _stages(results).items()
        if stage in names
    ]
    for row, run in _designed(results):
        points.append(Point(_candidate(row), "SSD", row["measured_ms"], run["test"]["AP"], False))
    return points


def _read(results: Path, name: str) -> Any:
    return json.loads((results / f"{name}.json").read_text(encoding="utf-8"))


def _stages(results: Path) -> dict[str, Any]:
    return {row["stage"]: row for row in _read(results, "compression")["ledgers"]["bccd"]}


def _designed(results: Path) -> list[tuple[Any, Any]]:
    """Recommended by `flyweight design` and trained: the recommendation, the run."""
    content = _read(results, "design")
    runs = {run["preset"]: run for run in content["trained"]}
    return [(row, runs[row["preset"]]) for row in content["recommended"] if row["preset"] in runs]


def _candidate(row: Any) -> str:
    each = row["candidate"]
    return f"{each['backbone']} {each['size']}" + f" α {each['width']:g}" * (each["width"] != 1)


def _kind(name: str) -> str:
    starts = {"retinanet": "RetinaNet", "faster_rcnn": "Faster R-CNN", "yolo": "YOLO"}
    return next((kind for start, kind in starts.items() if name.startswith(start)), "SSD")


def pareto_svg(results: Path = RESULTS) -> str:
    """Both plots, one above the other, as an `<svg>` file."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE | {"font.size": 9}):
        figure = Figure(figsize=(8.6, 9.2), layout="constrained")
        upper, lower = figure.subplots(2, gridspec_kw={"height_ratios": (3, 2)})
        _draw(upper, by_macs(results), "MMACs of one image", log=True)
        _draw(lower, by_milliseconds(results), "ms of one image, OpenVINO, two cores", log=False)
        figure.legend(handles=_key(), loc="outside upper left", fontsize=9, ncols=4)
        figure.draw_without_rendering()
        _label(upper, by_macs(results))
        _label(lower, by_milliseconds(results))
        svg = as_svg(figure, TITLE)
    return svg


def _draw(axes: Any, points: Sequence[Point], unit: str, *, log: bool) -> None:
    prices, values = [each.price for each in points], [each.ap for each in points]
    front = pareto_front(prices, values)
    axes.step(
        [prices[index] for index in front], [values[index] for index in front],
        where="post", color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=1,
    )  # fmt: skip
    for each in points:
        colour = PALETTE[KINDS.index(each.kind)]
        axes.scatter(
            each.price, each.ap, s=38, zorder=3, linewidths=1.6, edgecolors=colour,
            facecolors=colour if each.pretrained else "none",
        )  # fmt: skip
    if log:
        axes.set_xscale("log")
        axes.set_xticks([50, 100, 200, 500, 1000, 2000, 5000, 10000])
        axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.margins(x=0.3, y=0.1)
    axes.set_xlabel(unit)
    axes.set_title("AP on test", loc="left", fontsize=9, color=SOFT)
    axes.tick_params(length=0, which="both")


def _key() -> list[Any]:
    from matplotlib.lines import Line2D

    def entry(label: str, colour: str, **style: Any) -> Any:
        return Line2D([], [], linestyle="", marker="o", color=colour, label=label, **style)

    kinds = [entry(kind, colour) for kind, colour in zip(KINDS, PALETTE, strict=False)]
    return [
        *kinds,
        entry("from ImageNet weights", SOFT),
        entry("from random weights", SOFT, markerfacecolor="none"),
        Line2D([], [], color=SOFT, linewidth=1, linestyle=(0, (4, 3)), label="best for the price"),
    ]


def _label(axes: Any, points: Sequence[Point]) -> None:
    """A name beside each point, in the first place where it covers no other name or point."""
    taken = [_box_around(axes.transData.transform((each.price, each.ap))) for each in points]
    for each in sorted(points, key=lambda each: -each.ap):
        for x, y, side in PLACES:
            label = axes.annotate(
                each.label, (each.price, each.ap), textcoords="offset points", xytext=(x, y),
                ha=side, va="center", fontsize=8, color=INK,
                bbox={"boxstyle": "square,pad=0", "facecolor": "none", "edgecolor": "none"},
            )  # fmt: skip
            box = label.get_window_extent().expanded(1.02, 1.05)
            own = taken[points.index(each)]
            free = not any(box.overlaps(other) for other in taken if other is not own)
            if free and axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1:
                break
            if (x, y, side) != PLACES[-1]:
                label.remove()
        taken.append(box)


def _box_around(centre: Any, half: float = 5) -> Any:
    from matplotlib.transforms import Bbox

    (x, y) = centre
    return Bbox([[x - half, y - half], [x + half, y + half]])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(pareto_svg(), encoding="utf-8")
