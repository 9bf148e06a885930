"""MobileNet-SSD at 300 and at 512 pixels: what the larger input costs, and what it sees.

The detector as it is exported, decoding included. SSD300-VGG16 stands beside it, whose finest map
is twice as fine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flyweight.compression.fold import fold
from flyweight.export.onnx import export_onnx
from flyweight.models.detectors import Detector, build
from flyweight.profiling.breakdown import by_stage
from flyweight.profiling.level_view import level_views
from flyweight.profiling.onnxruntime_times import time_layers
from flyweight.profiling.operation import NetworkCost
from flyweight.profiling.probe_runs import open_probe
from flyweight.profiling.trace import trace_detector
from flyweight.runtime.load import open_session
from questions.markdown import by_name, labels, ms, runtimes_of, shown_ms, table
from questions.timing import LABELS, Call, Question, Row, Setting, time_calls

CLASSES = [f"class {index}" for index in range(20)]
DETECTORS = {
    "MobileNet-SSD, 300": ("mobilenet_ssd300", 300),
    "MobileNet-SSD, 512": ("mobilenet_ssd300", 512),
    "SSD300-VGG16": ("ssd300_vgg16", 300),
}
SMALL, LARGE, ANCESTOR = DETECTORS
# of a map, which the article takes for the smallest object: a cat of 4×4 cells
CELLS = 4
DRAFTED = "onnxruntime, from its operations"
# The stage whose map, conv5's, the article would rather predict from but dares not, and its boxes.
EARLY_STAGE, EARLY_BOXES = "backbone C3", 3


def measure(setting: Setting) -> dict[str, Any]:
    """Cost, levels, and milliseconds of the whole and of each stage."""
    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    rows: list[Row] = []
    calls: dict[tuple[str, str], Call] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (model, side) in DETECTORS.items():
            detector = build(model, classes=CLASSES, size=side).eval()
            cost = trace_detector(detector, folded=True)
            path = Path(folder) / f"{name}.onnx"
            export_onnx(detector, path)
            rows.append(_row(name, detector, cost))
            if name != ANCESTOR and "onnxruntime" in setting.runtimes:
                rows[-1]["stages"] = _stages(cost, path, setting)
                calls[name, DRAFTED] = open_probe(
                    cost, runtime="onnxruntime", threads=setting.threads
                )
            for runtime in setting.runtimes:
                calls[name, runtime] = _opened(detector, path, runtime, setting.threads)
        times = time_calls(calls, setting)
    for row in rows:
        row["times"] = {
            column: time for (name, column), time in times.items() if name == row["name"]
        }
    return {"rows": rows}


def _row(name: str, detector: Detector, cost: NetworkCost) -> Row:
    levels = level_views(detector, cost)
    [early] = [part.operations[-1] for part in by_stage(cost) if part.name == EARLY_STAGE]
    _, channels, height, width = early.output_shape
    values = EARLY_BOXES * (len(CLASSES) + 1 + 4)
    return {
        "name": name,
        "mmacs": round(cost.macs / 1e6, 2),
        "mparams": round(cost.params / 1e6, 3),
        "access_mb": round(cost.access_bytes / 1e6, 2),
        "peak_mb": round(cost.peak_activation_bytes / 1e6, 2),
        "anchors": sum(each.grid[0] * each.grid[1] * len(each.anchors_wh) for each in levels),
        "side": cost.input_shape[2],
        "levels": [
            {
                "grid": each.grid[0],
                "stride": each.stride,
                "field": each.receptive_field,
                "smallest": round(min(min(sizes) for sizes in each.anchors_wh), 1),
                "largest": round(max(max(sizes) for sizes in each.anchors_wh), 1),
            }
            for each in levels
        ],
        "early": {
            "grid": height,
            "field": early.receptive_field,
            "mmacs": round(height * width * channels * values / 1e6, 2),
        },
    }


def _stages(cost: NetworkCost, path: Path, setting: Setting) -> list[Row]:
    """MACs and ONNX Runtime's own times; what has no layer of the network is decoding."""
    by_layer = time_layers(path, threads=setting.threads).by_layer()
    rows = []
    for part in by_stage(cost):
        spent = sum(by_layer.pop(layer, 0.0) for layer in part.layers)
        rows.append({"name": part.name, "mmacs": part.total("macs") / 1e6, "ms": round(spent, 3)})
    rest = round(sum(by_layer.values()), 3)
    return [*rows, {"name": "input, decoding", "mmacs": 0.0, "ms": rest}]


def _opened(detector: Detector, path: Path, runtime: str, threads: int) -> Call:
    """One run, as `flyweight bench` runs it."""
    shape = (1, *detector.preprocessing.size_hw, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if runtime != "torch":
        session = open_session(path, threads=threads, runtime=runtime)
        return lambda: session.run(noise)
    folded = fold(detector).to(memory_format=torch.channels_last)
    images = torch.from_numpy(noise)

    def run() -> object:
        with torch.inference_mode():
            return folded(images)

    return run


def tables(result: dict[str, Any]) -> dict[str, str]:
    """The whole, the stages, the levels."""
    rows, runtimes = by_name(result), runtimes_of(result)
    small, large = rows[SMALL], rows[LARGE]
    whole = [
        [
            name,
            f"{row['mparams']:.2f}",
            f"{row['mmacs']:,.0f}",
            f"{row['access_mb']:.0f}",
            f"{row['peak_mb']:.1f}",
            f"{row['anchors']:,}",
            *(shown_ms(row, each) for each in runtimes),
        ]
        for name, row in rows.items()
    ]
    figures: list[Callable[[Row], float]] = [
        lambda row: row["mparams"],
        lambda row: row["mmacs"],
        lambda row: row["access_mb"],
        lambda row: row["peak_mb"],
        lambda row: row["anchors"],
        *((lambda row, each=each: ms(row, each)) for each in runtimes),
    ]
    whole.insert(
        2, ["*512 against 300*", *(f"*{each(large) / each(small):.2f}×*" for each in figures)]
    )
    head = ["", "params, M", "MMACs", "MB moved", "peak MB", "boxes", *labels(runtimes, unit="ms")]
    written = {
        "ssd_whole": table(head, whole),
        "ssd_levels": _levels_table(rows),
        "ssd_early": _early_line(small),
    }
    if "stages" in small:
        written["ssd_stages"] = _stages_table(small, large)
    if DRAFTED in small["times"]:
        written["drafted"] = table(
            ["", "exported file, ms", "from its operations, ms"],
            [
                [name, shown_ms(rows[name], "onnxruntime"), shown_ms(rows[name], DRAFTED)]
                for name in (SMALL, LARGE)
            ],
        )
    return written


def _stages_table(small: Row, large: Row) -> str:
    totals = [sum(stage["ms"] for stage in row["stages"]) for row in (small, large)]
    lines = []
    for first, second in zip(small["stages"], large["stages"], strict=True):
        ratio = f"{second['mmacs'] / first['mmacs']:.2f}" if first["mmacs"] else "–"
        lines.append(
            [
                first["name"],
                f"{first['mmacs']:.0f} ({first['mmacs'] / small['mmacs']:.0%})",
                f"{first['ms']:.2f} ({first['ms'] / totals[0]:.0%})",
                f"{second['mmacs']:.0f} ({second['mmacs'] / large['mmacs']:.0%})",
                f"{second['ms']:.2f} ({second['ms'] / totals[1]:.0%})",
                ratio,
                f"{second['ms'] / first['ms']:.2f}" if first["ms"] else "–",
            ]
        )
    head = ["stage", "300: MMACs", "ms", "512: MMACs", "ms", "MACs, times", "ms, times"]
    return table(head, lines)


def _levels_table(rows: dict[str, Row]) -> str:
    lines = []
    for name, row in rows.items():
        finest, coarsest = row["levels"][0], row["levels"][-1]
        lines.append(
            [
                name,
                " ".join(str(each["grid"]) for each in row["levels"]),
                f"{CELLS / finest['grid']:.3f}",
                f"{finest['field']} px",
                f"{finest['smallest'] / row['side']:.2f}",
                f"{coarsest['field'] / row['side']:.2f}",
            ]
        )
    head = [
        "",
        "cells a side",
        f"{CELLS} cells of the finest, of the picture",
        "its field",
        "its smallest box, of the picture",
        "coarsest field, of the picture",
    ]
    return table(head, lines, words=2)


def _early_line(small: Row) -> str:
    early, finest = small["early"], small["levels"][0]
    return (
        f"At 300, conv5 has {early['grid']}×{early['grid']} cells. To predict from it, too, with "
        f"{EARLY_BOXES} boxes a cell, would take {early['mmacs']:.0f} MMACs more; its field is "
        f"{early['field']} px, where conv11's, now the finest, is {finest['field']} px."
    )


QUESTION = Question(measure, tables, runtimes=tuple(LABELS))
