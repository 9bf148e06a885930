"""Whether `flyweight design` keeps its word: predicted against measured, capacity against AP.

    python benchmarks/design.py design WORK --data ../shared/data/bccd --device-model FILE
    python benchmarks/design.py measure WORK [--seconds 60]
    python benchmarks/design.py train WORK --data ../shared/data/bccd [--epochs 100] [--part 1/2]
    python benchmarks/design.py report WORK --data ../shared/data/bccd [--device-model FILE]

`design` searches for a budget on the device and runtime of a calibration and exports the best
five; `measure` times them in turns as `flyweight bench` does, and can be called as often as the
machine is free; `train` trains three of them, of the most, middle and least capacity, all from
random weights, and does not repeat a run that is finished; `report` writes `results/design.json`.
WORK keeps the files in between.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from machine import write_result

from flyweight.data.formats import open_dataset
from flyweight.evaluation.paired import compare
from flyweight.export.onnx import export_onnx
from flyweight.models.detectors import build, load
from flyweight.profiling.design.budget import parse_budget
from flyweight.profiling.design.design import design, save_presets
from flyweight.profiling.design.design_report import design_report
from flyweight.profiling.device_model import DeviceModel
from flyweight.profiling.stopwatch import time_in_turns
from flyweight.profiling.trace import trace_detector
from flyweight.reports.page import write_report
from flyweight.runtime.load import open_session
from flyweight.training.run import train_on_folder

ROUNDS = 15
FOUND = "found.json"


def main() -> None:
    """One step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("step", choices=("design", "measure", "train", "report"))
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--device-model", type=Path)
    parser.add_argument("--budget", default="8 ms")
    parser.add_argument("--head", default="ssdlite")
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--part", default="1/1", help="such as 1/2: of two processes the first")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    options = parser.parse_args()
    if options.step != "measure" and options.data is None:
        parser.error("--data is missing")
    if options.step == "design":
        if options.device_model is None:
            parser.error("--device-model is missing")
        search(options)
    elif options.step == "measure":
        measure(options.work, options.seconds)
    elif options.step == "train":
        part, parts = (int(each) for each in options.part.split("/"))
        rows = chosen(found_in(options.work)["recommended"])
        jobs = [(row, seed) for seed in options.seeds for row in rows]
        for row, seed in jobs[part - 1 :: parts]:
            print(train_once(options.work, row, options.data, options.epochs, seed), flush=True)
    else:
        again = options.device_model and DeviceModel.load(options.device_model)
        result = report(options.work, options.data, again)
        print(json.dumps(result, indent=2))
        print(write_result("design", result))


def search(options: argparse.Namespace) -> None:
    """Design, write presets, page and what was found, and export what is recommended."""
    model = DeviceModel.load(options.device_model)
    dataset = open_dataset(options.data, "train")
    started = time.perf_counter()
    found = design(
        dataset,
        parse_budget(options.budget),
        head=options.head,
        latency=model,
        trials=options.trials,
    )
    seconds = time.perf_counter() - started
    presets = save_presets(found, options.work)
    write_report(
        design_report(found, presets, data=options.data.name), options.work / "design.html"
    )
    rows = [
        {
            "preset": path.name,
            "candidate": asdict(each.candidate),
            "predicted_ms": each.price.milliseconds,
            "mmacs": each.price.macs / 1e6,
            "params": each.price.params,
            "capacity": each.capacity.value,
        }
        for path, each in zip(presets, found.recommended, strict=True)
    ]
    content = {
        "budget": options.budget,
        "head": options.head,
        "data": options.data.name,
        "runtime": model.runtime,
        "threads": model.threads,
        "trials": len(found.tried),
        "search_seconds": round(seconds),
        "recommended": rows,
    }
    (options.work / FOUND).write_text(json.dumps(content, indent=1) + "\n")
    for row in rows:
        print(row)
    export_presets(presets, dataset.class_names)


def export_presets(presets: list[Path], classes: tuple[str, ...]) -> None:
    """The networks with random weights, which take as long as trained ones."""
    for path in presets:
        torch.manual_seed(0)
        export_onnx(build(str(path), classes=classes).eval(), path.with_suffix(".onnx"))


def found_in(work: Path) -> dict[str, Any]:
    """What `search` left."""
    content: dict[str, Any] = json.loads((work / FOUND).read_text())
    return content


def measure(work: Path, seconds: float) -> None:
    """Time all recommended in turns and add what was not disturbed to what is known."""
    found, kept = found_in(work), work / "measured.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    calls = {}
    for row in found["recommended"]:
        path = (work / row["preset"]).with_suffix(".onnx")
        session = open_session(path, threads=found["threads"], runtime=found["runtime"])
        noise = np.random.default_rng(0).integers(0, 256, (1, *session.size_hw, 3), dtype=np.uint8)
        calls[row["preset"]] = lambda session=session, noise=noise: session.run(noise)
    for name, timing in time_in_turns(calls, rounds=ROUNDS, seconds=seconds).items():
        print(f"{name:34} {timing}")
        if not timing.disturbed:
            known.setdefault(name, []).append(timing.milliseconds)
    kept.write_text(json.dumps(known))


def chosen(recommended: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the most, middle and least capacity."""
    ordered = sorted(recommended, key=lambda row: -row["capacity"])
    return [ordered[0], ordered[len(ordered) // 2], ordered[-1]]


def train_once(
    work: Path, row: dict[str, Any], data: Path, epochs: int, seed: int
) -> dict[str, Any]:
    """The figures of one training, from its file where it is finished."""
    name = f"{Path(row['preset']).stem}-{seed}"
    finished = work / f"{name}.json"
    if finished.is_file():
        return dict(json.loads(finished.read_text()))
    run = work / "runs" / name
    trained = train_on_folder(
        work / row["preset"],
        data,
        run,
        resume=(run / "resume.pt").is_file(),
        pretrained="none",
        epochs=epochs,
        seed=seed,
        note=print,
    )
    result = {
        "preset": row["preset"],
        "checkpoint": str(trained.checkpoint),
        "capacity": row["capacity"],
        "seed": seed,
        "epochs": epochs,
        "val": trained.metrics,
        "test": trained.test_metrics,
    }
    finished.write_text(json.dumps(result, indent=1) + "\n")
    return result


def report(work: Path, data: Path, again: DeviceModel | None = None) -> dict[str, Any]:
    """Predicted against measured, and AP in the order of capacity.

    Args:
        again: a later calibration, to predict the same detectors with: what the first one was off
            by, where the machine was not quiet.
    """
    found = found_in(work)
    kept = work / "measured.json"
    measured = json.loads(kept.read_text()) if kept.exists() else {}
    classes = open_dataset(data, "train").class_names
    for row in found["recommended"]:
        times = measured.get(row["preset"])
        if times:
            row["measured_ms"] = round(median(times), 3)
            row["visits_ms"] = [round(each, 3) for each in times]
            row["error"] = round(row["predicted_ms"] / row["measured_ms"] - 1, 3)
        if times and again is not None:
            milliseconds = predicted(work / row["preset"], again, classes)
            row["predicted_again_ms"] = round(milliseconds, 3)
            row["error_again"] = round(row["predicted_again_ms"] / row["measured_ms"] - 1, 3)
    runs = [runs_of(work, row) for row in chosen(found["recommended"])]
    trained = [trained_row(each) for each in runs if each]
    scores = [row["test"]["AP"] for row in trained]
    return {
        **found,
        **{
            f"median_absolute_{name}": median(abs(row[name]) for row in rows)
            for name in ("error", "error_again")
            if (rows := [row for row in found["recommended"] if name in row])
        },
        "trained": trained,
        "order_holds": scores == sorted(scores, reverse=True) if len(scores) > 1 else None,
        "differences": differences([each[0] for each in runs if each], data),
    }


def predicted(preset: Path, device: DeviceModel, classes: tuple[str, ...]) -> float:
    """Milliseconds of a preset on a device."""
    with torch.device("meta"):
        detector = build(str(preset), classes=classes)
    return device.predict(trace_detector(detector, folded=True)).milliseconds


def runs_of(work: Path, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Finished trainings of a preset, by seed."""
    files = sorted(work.glob(f"{Path(row['preset']).stem}-[0-9]*.json"))
    return [json.loads(file.read_text()) for file in files]


def trained_row(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean over seeds."""
    return {
        **{name: runs[0][name] for name in ("preset", "capacity", "epochs")},
        "seeds": len(runs),
        "test": {name: fmean(run["test"][name] for run in runs) for name in ("AP", "AP50")},
    }


def differences(runs: list[dict[str, Any]], data: Path) -> list[dict[str, Any]]:
    """Of each run to the one with the next more capacity, on the test images: whether AP tells."""
    rows = []
    images = open_dataset(data, "test")
    for more, less in pairwise(runs):
        pair = [load(run["checkpoint"]) for run in (more, less)]
        (difference,) = compare(pair, images).differences
        rows.append(
            {
                "preset": less["preset"],
                "against": more["preset"],
                **asdict(difference.AP),
                "more_than_chance": difference.more_than_chance,
            }
        )
    return rows


if __name__ == "__main__":
    main()
