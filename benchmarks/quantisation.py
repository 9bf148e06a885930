"""What each precision of an exported detector costs and saves: AP, milliseconds, megabytes.

    python benchmarks/quantisation.py export bccd runs/bccd/best.safetensors ../shared/data/bccd
    python benchmarks/quantisation.py time bccd ../shared/data/bccd
    python benchmarks/quantisation.py table

Ranges come from `train`, what int8 leaves in float is decided on `val` (or the images that training
set aside), and AP is that of `test`, all precisions on the same images. `time` runs all files of a
data set in turns; it wants a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from machine import RESULTS, write_result

from flyweight.compression.mixed_precision import choose_precision
from flyweight.compression.onnx_layers import layers_of
from flyweight.core.detections import Detections
from flyweight.core.image import read_image
from flyweight.data.records import DetectionDataset
from flyweight.evaluation.coco_ap import average_precision
from flyweight.evaluation.evaluate import detect
from flyweight.evaluation.latency import median_milliseconds
from flyweight.evaluation.paired import compare_detections
from flyweight.export.formats import Order, Source, chosen_format, write_file
from flyweight.export.int8 import Calibration
from flyweight.export.onnx import to_onnx
from flyweight.export.splits import export_data
from flyweight.models.detectors import checkpoint
from flyweight.runtime.load import load_predictor

FILES = Path(tempfile.gettempdir()) / "flyweight-quantisation"
PAGE = Path(__file__).parents[1] / "docs" / "quantisation.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
RUNTIMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
# Names of rows, with their precision.
ROWS = {
    "fp32": "fp32",
    "fp16": "fp16",
    "bf16": "bf16",
    "int8-weights": "int8-weights",
    "int8-weights, mixed": "int8-weights",
    "int8": "int8",
    "int8, mixed": "int8",
}
MAX_LOSS = 0.5


def export_all(name: str, run: Path, data: Path) -> None:
    """Write every file and measure AP on the test images, one row after the other."""
    detector = checkpoint.load(run)
    graph = to_onnx(detector)
    sets = export_data(data)
    calibration = Calibration(
        graph, sets.calibration, preprocessing=detector.preprocessing, say=print
    )
    rows: dict[str, Any] = {}
    for format in RUNTIMES:
        files = Files(Source(detector, graph, calibration), format=format, folder=FILES / name)
        plain = files.write("fp32")
        choosing = detect(load_predictor(plain), sets.choosing)
        test = detect(load_predictor(plain), sets.reporting)
        for row in ROWS:
            kept: tuple[str, ...] = ()
            if row.endswith(", mixed"):
                kept = choose(files, row, calibration, sets.choosing, choosing)
            path = files.write(row, kept)
            compared = compare_detections(
                sets.reporting, [test, detect(load_predictor(path), sets.reporting)]
            )
            loss = compared.differences[0].AP
            rows[f"{format} {row}"] = {
                "file": str(path.relative_to(FILES)),
                "AP": round(compared.results[1].AP or 0.0, 4),
                "loss_points": [round(-100 * x, 2) for x in (loss.value, loss.high, loss.low)],
                "convolutions_in_float": len(kept),
                "MB": round(megabytes(path), 2),
            }
            print(format, row, rows[f"{format} {row}"], flush=True)
            save(
                name,
                {
                    "model": str(detector.config.name),
                    "images": len(sets.reporting),
                    "convolutions": len(layers_of(graph)),
                    "rows": rows,
                },
            )


def choose(
    files: Files,
    row: str,
    calibration: Calibration,
    dataset: DetectionDataset,
    reference: list[Detections],
) -> tuple[str, ...]:
    """The convolutions that stay in float, so that the others cost no more than `MAX_LOSS`."""
    ap = average_precision(dataset, reference).AP or 0.0

    def loss_of(kept: tuple[str, ...]) -> float:
        found = detect(load_predictor(files.write(row, kept)), dataset)
        loss = 100 * (ap - (average_precision(dataset, found).AP or 0.0))
        print(f"{len(kept)} in float: {loss:+.2f} points lost while choosing", flush=True)
        return loss

    return choose_precision(lambda: calibration.candidates, loss_of, max_loss=MAX_LOSS).kept


class Files:
    """Writes the files of one detector for one runtime."""

    def __init__(self, source: Source, *, format: str, folder: Path) -> None:
        self.source = source
        self.format = chosen_format(format)
        self.folder = folder

    def write(self, row: str, kept: tuple[str, ...] = ()) -> Path:
        """The file of a row of `ROWS`."""
        path = self.folder / f"{row.replace(', ', '-')}{self.format.suffix}"
        write_file(self.source, path, format=self.format, order=Order(ROWS[row], kept))
        return path


def time_all(name: str, data: Path, rounds: int) -> None:
    """Milliseconds of one image in every file, in turns."""
    result = load()["data"][name]
    image = read_image(export_data(data).reporting.records[0].path)
    calls: dict[str, Callable[[], object]] = {}
    for row, content in result["rows"].items():
        predictor = load_predictor(FILES / content["file"])
        pixels = np.ascontiguousarray(predictor.preprocessing.apply(image)[0][None])
        calls[row] = partial(predictor.session.run, pixels)
    for row, milliseconds in median_milliseconds(calls, repeats=rounds).items():
        result["rows"][row]["ms"] = round(milliseconds, 2)
        print(row, round(milliseconds, 2), flush=True)
    save(name, result)


def load() -> dict[str, Any]:
    """What was measured before."""
    path = RESULTS / "quantisation.json"
    content: dict[str, Any] = {"data": {}}
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
    return {"data": content["data"]}


def save(name: str, result: dict[str, Any]) -> None:
    """Replace one data set's figures."""
    content = load()
    content["data"][name] = result
    write_result("quantisation", content)


def megabytes(file: Path) -> float:
    """Of the file; of OpenVINO's both."""
    files = {file, file.with_suffix(".bin")} if file.suffix == ".xml" else {file}
    return sum(each.stat().st_size for each in files) / 1e6


def table() -> None:
    """Write the figures into `docs/quantisation.md`, between its two markers."""
    lines = []
    for name, result in load()["data"].items():
        lines += [
            f"`{result['model']}` of {name}, {result['images']} test images:",
            "",
            "| runtime | precision | in float | AP | AP points lost (95 % interval) | ms | MB |",
            "|---|---|---|---|---|---|---|",
        ]
        for row, of in result["rows"].items():
            format, _, precision = row.partition(" ")
            loss, low, high = of["loss_points"]
            lost = "" if precision == "fp32" else f"{loss:+.2f} ({low:+.2f} to {high:+.2f})"
            kept = str(of["convolutions_in_float"]) if precision.endswith(", mixed") else ""
            ms = f"{of['ms']:.1f}" if "ms" in of else "–"
            lines.append(
                f"| {RUNTIMES[format]} | {precision} | {kept} | {of['AP']:.3f} | {lost} | {ms} | "
                f"{of['MB']:.1f} |"
            )
        lines.append("")
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    PAGE.write_text(
        f"{head}{BEGIN}\n" + "\n".join(lines) + f"{END}{rest.split(END)[1]}", encoding="utf-8"
    )


def main() -> None:
    """`export`, `time` or `table`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("export", "time"):
        words = verbs.add_parser(verb)
        words.add_argument("name")
        if verb == "export":
            words.add_argument("checkpoint", type=Path)
        words.add_argument("data", type=Path)
        words.add_argument("--rounds", type=int, default=12)
    verbs.add_parser("table")
    options = parser.parse_args()
    if options.verb == "export":
        export_all(options.name, options.checkpoint, options.data)
    elif options.verb == "time":
        time_all(options.name, options.data, options.rounds)
    else:
        table()


if __name__ == "__main__":
    main()
