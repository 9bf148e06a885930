"""α and ρ of MobileNetV1 and V2: do milliseconds go as α²ρ² (MobileNets, 3.3 and 3.4)?

Classifiers without norms (folded), 1000 classes, one picture: the papers' widths at 224 pixels, and
their input sizes at full width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.mobilenet_v1 import MobileNetV1
from flyweight.models.backbones.mobilenet_v2 import MobileNetV2
from questions.drawing import drawing
from questions.markdown import by_name, labels, ms, runtimes_of, table
from questions.timing import (
    Candidate,
    Question,
    Row,
    Setting,
    classifier,
    picture_cost,
    time_candidates,
)

FAMILIES: dict[str, Callable[..., Backbone]] = {
    "MobileNetV1": MobileNetV1,
    "MobileNetV2": MobileNetV2,
}
WIDTHS = {"MobileNetV1": (1.0, 0.75, 0.5, 0.25), "MobileNetV2": (1.0, 0.75, 0.5, 0.35)}
SIDES = (224, 192, 160, 128)
# MMACs: MobileNets, tables 6 and 7; MobileNetV2's repository, the table of its weights
PAPERS = {
    ("MobileNetV1", 1.0, 224): 569,
    ("MobileNetV1", 0.75, 224): 325,
    ("MobileNetV1", 0.5, 224): 149,
    ("MobileNetV1", 0.25, 224): 41,
    ("MobileNetV1", 1.0, 192): 418,
    ("MobileNetV1", 1.0, 160): 290,
    ("MobileNetV1", 1.0, 128): 186,
    ("MobileNetV2", 1.0, 224): 300,
    ("MobileNetV2", 0.75, 224): 209,
    ("MobileNetV2", 0.5, 224): 97,
    ("MobileNetV2", 0.35, 224): 59,
    ("MobileNetV2", 1.0, 192): 221,
    ("MobileNetV2", 1.0, 160): 154,
    ("MobileNetV2", 1.0, 128): 99,
}


# milliseconds on a Pixel 1 in the same table of MobileNetV2's repository
PIXEL = {
    (1.0, 224): 73.8,
    (0.75, 224): 55.8,
    (0.5, 224): 28.7,
    (0.35, 224): 19.7,
    (1.0, 192): 55.1,
    (1.0, 160): 40.2,
    (1.0, 128): 27.6,
}


def candidates() -> list[Candidate]:
    """Every width at the largest size, every size at the largest width."""
    return [
        Candidate(
            _name(family, width, side),
            picture_cost(classifier(make(width=width, norm=None, outputs="classifier")), side),
            {"family": family, "width": width, "side": side},
        )
        for family, make in FAMILIES.items()
        for width, side in _sweeps(family)
    ]


def measure(setting: Setting) -> dict[str, Any]:
    """All of them."""
    return {"rows": time_candidates(candidates(), setting)}


def tables(result: dict[str, Any]) -> dict[str, str]:
    """The two sweeps of each family."""
    rows, runtimes = by_name(result), runtimes_of(result)
    written = {}
    for family in FAMILIES:
        whole = rows[_name(family, 1.0, 224)]
        phone = family == "MobileNetV2"
        lines = []
        for width, side in _sweeps(family):
            row = rows[_name(family, width, side)]
            lines.append(
                [
                    width,
                    side,
                    f"{row['mmacs']:.0f}",
                    PAPERS[family, width, side],
                    f"{row['mmacs'] / whole['mmacs']:.2f}",
                    f"{width**2 * (side / 224) ** 2:.2f}",
                    *(_with_share(row, whole, each) for each in runtimes),
                    *([f"{PIXEL[width, side] / PIXEL[1.0, 224]:.2f}"] if phone else []),
                ]
            )
        head = ["α", "input", "MMACs", "published", "of all MACs", "α²ρ²"]
        head += [*labels(runtimes, unit="ms (share)"), *(["Pixel 1, share"] if phone else [])]
        written[f"sweep_{family}"] = table(head, lines, words=2)
    return written


def pictures(result: dict[str, Any]) -> dict[str, str]:
    """Milliseconds over MACs, both logarithmic, along α and along ρ."""
    rows, runtime = by_name(result), runtimes_of(result)[0]

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(FAMILIES), sharey=True)
        for axes, family in zip(panels, FAMILIES, strict=True):
            whole = rows[_name(family, 1.0, 224)]
            for label, points in (
                ("narrower (α)", [(width, 224) for width in WIDTHS[family]]),
                ("smaller input (ρ)", [(1.0, side) for side in SIDES]),
            ):
                line = [rows[_name(family, *point)] for point in points]
                x, y = [row["mmacs"] for row in line], [ms(row, runtime) for row in line]
                axes.plot(x, y, marker="o", markersize=4, label=label)
            ends = [min(row["mmacs"] for row in rows.values()), whole["mmacs"]]
            straight = [ms(whole, runtime) * each / whole["mmacs"] for each in ends]
            axes.plot(ends, straight, color="#6b7280", linestyle=":", label="as MACs go")
            axes.set(xscale="log", yscale="log", xlabel="MMACs", title=family)
            axes.set_xticks([25, 50, 100, 200, 400], ["25", "50", "100", "200", "400"])
            axes.set_yticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
            axes.minorticks_off()
        panels[0].set_ylabel(f"ms, {labels([runtime])[0]}")
        panels[0].legend(loc="lower right")

    return {"width_and_resolution": drawing(draw, "Milliseconds over MACs", size=(8.0, 3.6))}


def _sweeps(family: str) -> list[tuple[float, int]]:
    return [(width, 224) for width in WIDTHS[family]] + [(1.0, side) for side in SIDES[1:]]


def _with_share(row: Row, whole: Row, runtime: str) -> str:
    return f"{ms(row, runtime):.2f} ({ms(row, runtime) / ms(whole, runtime):.2f})"


def _name(family: str, width: float, side: int) -> str:
    return f"{family} ×{width} {side}"


QUESTION = Question(measure, tables, pictures)
