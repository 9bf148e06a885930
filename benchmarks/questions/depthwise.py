"""Depthwise against full convolutions, where MACs and milliseconds disagree (MobileNets, 3.1).

Four layers in a row at the shapes of MobileNetV1's five stages, where a full 3×3 has the same MACs
everywhere: full 3×3, 1×1, depthwise 3×3, and the depthwise separable pair. Beside them what the
machine can do at most.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from torch import nn

from flyweight.core.errors import CheckError
from flyweight.profiling.ceilings import measure_ceilings
from questions.drawing import drawing
from questions.markdown import by_name, labels, ms, runtimes_of, table
from questions.timing import (
    DEPLOYED,
    LABELS,
    Candidate,
    Question,
    Row,
    Setting,
    stack,
    time_candidates,
)

LAYERS = 4
# channels and cells a side of the stages after their stride
STAGES = ((64, 112), (128, 56), (256, 28), (512, 14), (1024, 7))
FULL, POINTWISE, DEPTHWISE, SEPARABLE = "full 3×3", "1×1", "depthwise 3×3", "separable"
KINDS = (FULL, POINTWISE, DEPTHWISE, SEPARABLE)


def candidates() -> list[Candidate]:
    """Every kind at every stage."""
    return [
        Candidate(
            _name(kind, channels),
            stack([_layer(kind, channels) for _ in range(LAYERS)], side=side),
            {"kind": kind, "channels": channels, "side": side},
        )
        for channels, side in STAGES
        for kind in KINDS
    ]


def measure(setting: Setting) -> dict[str, Any]:
    """The layers, and the machine's ceilings where they show."""
    found: dict[str, Any] = {}
    with suppress(CheckError):  # others use the machine: those measured before are kept
        ceilings = measure_ceilings(threads=setting.threads)
        found["ceilings"] = {
            "gflops": round(ceilings.gflops["fp32"], 1),
            "bandwidth_gbs": round(ceilings.bandwidth_gbs, 1),
        }
    return found | {"rows": time_candidates(candidates(), setting)}


def tables(result: dict[str, Any]) -> dict[str, str]:
    """What separating saves in MACs and in milliseconds; how fast each kind runs."""
    rows, runtimes = by_name(result), runtimes_of(result)
    saved, speeds = [], []
    for channels, side in STAGES:
        full, separable = rows[_name(FULL, channels)], rows[_name(SEPARABLE, channels)]
        saved.append(
            [
                f"{channels} × {side}²",
                f"{full['mmacs'] / LAYERS:.0f}",
                f"{full['mmacs'] / separable['mmacs']:.1f}",
                *(f"{ms(full, each) / ms(separable, each):.1f}" for each in runtimes),
            ]
        )
    for kind in KINDS:
        for channels, side in STAGES:
            row = rows[_name(kind, channels)]
            speeds.append(
                [
                    kind,
                    f"{channels} × {side}²",
                    f"{row['mmacs'] / LAYERS:.2f}",
                    f"{row['access_mb'] / LAYERS:.2f}",
                    f"{2 * row['mmacs'] / row['access_mb']:.1f}",
                    *(
                        f"{ms(row, each) / LAYERS:.3f} ({gflops(row, each):.0f})"
                        for each in runtimes
                    ),
                ]
            )
    written = {
        "separable": table(
            ["channels × cells", "full, MMACs", "fewer MACs, times", *_faster(runtimes)], saved
        ),
        "kinds": table(
            [
                "layer",
                "channels × cells",
                "MMACs",
                "MB",
                "FLOP/byte",
                *labels(runtimes, unit="ms (GFLOP/s)"),
            ],
            speeds,
            words=2,
        ),
    }
    if "ceilings" in result:
        written["ceilings"] = _ceilings_line(**result["ceilings"])
    return written


def _ceilings_line(gflops: float, bandwidth_gbs: float) -> str:
    return (
        f"The machine at its best: {gflops:.0f} GFLOP/s in a product of large matrices, "
        f"{bandwidth_gbs:.0f} GB/s in a copy that no cache holds. So below "
        f"{gflops / bandwidth_gbs:.0f} operations a byte memory is the limit, unless a cache helps."
    )


def pictures(result: dict[str, Any]) -> dict[str, str]:
    """Arithmetic a second of each kind from stage to stage, logarithmic."""
    rows = by_name(result)
    runtimes = [each for each in runtimes_of(result) if each in DEPLOYED]
    places = range(len(STAGES))

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(runtimes), sharey=True, squeeze=False)[0]
        for axes, runtime in zip(panels, runtimes, strict=True):
            for kind in KINDS:
                speeds = [gflops(rows[_name(kind, channels)], runtime) for channels, _ in STAGES]
                axes.plot(places, speeds, marker="o", markersize=4, label=kind)
            axes.set(yscale="log", xlabel="channels × cells", title=LABELS[runtime])
            axes.set_xticks(places, [f"{channels}\n× {side}²" for channels, side in STAGES])
            axes.set_yticks([5, 10, 20, 50, 100, 200], ["5", "10", "20", "50", "100", "200"])
            axes.minorticks_off()
        panels[0].set_ylabel("GFLOP/s")
        panels[0].legend(loc="lower left")

    return {"depthwise": drawing(draw, "GFLOP/s of each kind of layer", size=(8.0, 3.6))}


def gflops(row: Row, runtime: str) -> float:
    """Billions of operations a second, two a MAC."""
    speed: float = 2 * row["mmacs"] / ms(row, runtime)
    return speed


def _faster(runtimes: list[str]) -> list[str]:
    return [f"{name}: faster, times" for name in labels(runtimes)]


def _layer(kind: str, channels: int) -> nn.Module:
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
    pointwise = nn.Conv2d(channels, channels, 1)
    layers: dict[str, nn.Module] = {
        FULL: nn.Conv2d(channels, channels, 3, padding=1),
        POINTWISE: pointwise,
        DEPTHWISE: depthwise,
        SEPARABLE: nn.Sequential(depthwise, pointwise),
    }
    return layers[kind]


def _name(kind: str, channels: int) -> str:
    return f"{kind}, {channels} channels"


QUESTION = Question(measure, tables, pictures, runtimes=tuple(LABELS))
