"""Every format × detector × precision: how far from the detector, AP, milliseconds, megabytes.

    python benchmarks/export_matrix.py export RUNS ../shared/data/bccd [--model NAME]
    python benchmarks/export_matrix.py time
    python benchmarks/export_matrix.py table

RUNS holds a run folder (`flyweight train`) for each model, all trained on the data set. `export`
writes all files, and goes on where it was stopped; AP is of the test images, int8 is calibrated on
those of training and keeps nothing in float. A cell that cannot be says why, in the words that the
user is told. `time` runs all files of a model in turns and wants a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import RESULTS, write_result

from flyweight.core.errors import CheckError, InputError
from flyweight.evaluation.latency import median_milliseconds
from flyweight.export.export import export
from flyweight.export.parity import sample_inputs
from flyweight.export.splits import export_data
from flyweight.models.detectors import Detector, checkpoint
from flyweight.runtime.load import open_session

FILES = Path(tempfile.gettempdir()) / "flyweight-export-matrix"
PAGE = Path(__file__).parents[1] / "docs" / "export_matrix.md"
FORMATS = {
    "onnx": "ONNX Runtime",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
    "ncnn": "ncnn",
}
PRECISIONS = ("fp32", "fp16", "int8")
# What a graph can be asked to be besides: the options of `export`.
SHAPES: dict[str, dict[str, Any]] = {
    "NMS in the graph": {"nms": True},
    "any number of images": {"dynamic_batch": True},
}
# Pictures for int8 there, where only whether the file agrees with itself is asked.
FEW_PICTURES = 16
# AP points: nothing is refused for its AP, which is what the table shows.
ANY_LOSS = 100.0
SECONDS_A_MODEL = 8.0


def export_all(runs: Path, data: Path, only: str | None) -> None:
    """Write what is missing, cell by cell."""
    sets = export_data(data)
    content = load()
    content["data"] = data.name
    content["images"] = len(sets.reporting)
    for run in sorted(runs.iterdir()):
        if only not in (None, run.name):
            continue
        detector = checkpoint.load(run / "best.safetensors")
        model = content["models"].setdefault(run.name, {"cells": {}, "shapes": {}})
        for format in FORMATS:
            for precision in PRECISIONS:
                if f"{format} {precision}" not in model["cells"]:
                    cell = export_cell(detector, data, run.name, format, precision)
                    model["cells"][f"{format} {precision}"] = cell
                    print(run.name, format, precision, cell, flush=True)
                    save(content)
            for key, shape, precision in shapes(format):
                if key not in model["shapes"]:
                    options = SHAPES[shape] | {"precision": precision}
                    if precision == "int8":
                        options["calibration"] = sets.calibration.subset(np.arange(FEW_PICTURES))
                    model["shapes"][key] = try_shape(detector, format, options)
                    print(run.name, key, model["shapes"][key], flush=True)
                    save(content)


def shapes(format: str) -> list[tuple[str, str, str]]:
    """Key, shape and precision of all that a file of a format can be asked to be besides."""
    return [
        (f"{format} {precision}, {shape}", shape, precision)
        for shape in SHAPES
        for precision in PRECISIONS
    ]


def export_cell(
    detector: Detector, data: Path, name: str, format: str, precision: str
) -> dict[str, Any]:
    """The figures of one file, or why there is none."""
    folder = FILES / name / f"{format}-{precision}"
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    try:
        made = export(
            detector,
            (format,),
            folder,
            precision=precision,
            data=data,
            max_loss=ANY_LOSS,
            name=name,
        )[0]
    except (InputError, CheckError) as error:
        return {"why": str(error)}
    return {
        "file": str(made.path.relative_to(FILES)),
        "max_box_error": made.max_box_error,
        "max_score_error": made.max_score_error,
        "AP": round(made.AP or 0.0, 4),
        "torch_AP": round(made.torch_ap or 0.0, 4),
        "MB": round(sum(each.stat().st_size for each in folder.iterdir()) / 1e6, 2),
        "seconds_to_export": round(time.perf_counter() - started, 1),
    }


def try_shape(detector: Detector, format: str, options: dict[str, Any]) -> str:
    """`yes`, checked against the detector, or why not."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            export(detector, (format,), folder, **options)
        except (InputError, CheckError) as error:
            return str(error)
    return "yes"


def time_all(only: str | None) -> None:
    """Milliseconds of one image in every file of a model, in turns."""
    content = load()
    for name, model in content["models"].items():
        if only not in (None, name):
            continue
        calls: dict[str, Callable[[], object]] = {}
        for key, cell in model["cells"].items():
            if "file" in cell:
                session = open_session(FILES / cell["file"])
                pixels = np.ascontiguousarray(sample_inputs(session.size_hw, count=1)[0][None])
                calls[key] = partial(session.run, pixels)
        once = sum(median_milliseconds(calls, repeats=1).values()) / 1e3
        repeats = int(np.clip(SECONDS_A_MODEL / once, 3, 50))
        for key, milliseconds in median_milliseconds(calls, repeats=repeats).items():
            model["cells"][key]["ms"] = round(milliseconds, 2)
        print(name, repeats, {key: model["cells"][key]["ms"] for key in calls}, flush=True)
        save(content)


def load() -> dict[str, Any]:
    """What was measured before."""
    path = RESULTS / "export_matrix.json"
    content: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"models": {}}
    return {key: content[key] for key in ("data", "images", "models") if key in content}


def save(content: dict[str, Any]) -> None:
    """Write the figures."""
    write_result("export_matrix", content)


def table() -> None:
    """Write `docs/export_matrix.md`."""
    content = load()
    notes: list[str] = []
    lines = [
        "# Export matrix",
        "",
        "Written by `benchmarks/export_matrix.py`. Each file was run and compared with its",
        "detector: the largest difference of a box (input pixels; below fp32 of boxes scored above",
        f"0.01) and of a score. All were trained on `{content['data']}`, AP is of its",
        f"{content['images']} test images; int8 is calibrated after training, with nothing left in",
        "float. ms: one image, one run of the network, all cores, all files of a model in turns on",
        f"{machine_line()}.",
        "What a file cannot be says why, by number, below. A dash, or a row that is missing, has",
        "not been measured.",
        "",
    ]
    for name, model in content["models"].items():
        aps = [cell["torch_AP"] for cell in model["cells"].values() if "torch_AP" in cell]
        lines += [f"## {name}", "", f"The detector's own AP: {aps[0]:.3f}." if aps else "", ""]
        lines += ["| format | precision | box, px | score | AP | ms | MB |", "|---" * 7 + "|"]
        for key, cell in model["cells"].items():
            format, precision = key.split(" ")
            lines.append(f"| {FORMATS[format]} | {precision} | {row(cell, notes)} |")
        lines += [
            "",
            "| | precision | " + " | ".join(FORMATS.values()) + " |",
            "|---" * (2 + len(FORMATS)) + "|",
        ]
        for rows in zip(*map(shapes, FORMATS), strict=True):
            said = [model["shapes"].get(key, "–") for key, _, _ in rows]
            cells = [each if each in ("yes", "–") else mark(each, notes) for each in said]
            lines.append(f"| {rows[0][1]} | {rows[0][2]} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["## Why not", ""]
    lines += [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def row(cell: dict[str, Any], notes: list[str]) -> str:
    """The figures of a cell in a row of the table."""
    if "why" in cell:
        return f"{mark(cell['why'], notes)} | | | | "
    ms = f"{cell['ms']:.1f}" if "ms" in cell else "–"
    box = cell["max_box_error"]
    pixels = f"{box:.1g}" if box < 1 else f"{box:.0f}"
    return f"{pixels} | {cell['max_score_error']:.1g} | {cell['AP']:.3f} | {ms} | {cell['MB']:.1f}"


def mark(note: str, notes: list[str]) -> str:
    """`no (3)`: the number of a note, which is added where it is new."""
    if note not in notes:
        notes.append(note)
    return f"no ({notes.index(note) + 1})"


def machine_line() -> str:
    """What `write_result` noted of the machine."""
    machine = json.loads((RESULTS / "export_matrix.json").read_text())["machine"]
    return f"{machine['cores']} cores of {machine['cpu']}"


def main() -> None:
    """`export`, `time` or `table`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("export", "time", "table"):
        words = verbs.add_parser(verb)
        if verb == "export":
            words.add_argument("runs", type=Path)
            words.add_argument("data", type=Path)
        if verb != "table":
            words.add_argument("--model")
    options = parser.parse_args()
    if options.verb == "export":
        torch.set_num_threads(1)
        export_all(options.runs, options.data, options.model)
    elif options.verb == "time":
        time_all(options.model)
    else:
        table()


if __name__ == "__main__":
    main()
