"""SSDlite320-MobileNetV2 on BCCD (blood cells): mean and spread of AP over seeds.

    python benchmarks/bccd.py ../shared/data/bccd [--anchors fit published] [--seeds 0 1 2]

Each run is what `flyweight train ssdlite320_mobilenet_v2 --pretrained imagenet --epochs 100` does:
trained on `train`, the best weights chosen on `val`, reported on `test`. A run takes 20 to 40
minutes on two cores; one that is finished in `--runs` is not repeated, so the script can be stopped
and called again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from machine import write_result

from flyweight.training.run import train_on_folder

MODEL = "ssdlite320_mobilenet_v2"
FIGURES = ("AP", "AP50", "AP75")
# torchvision's SSDlite over the same weights, and Ultralytics' YOLO11n from scratch, 100 epochs
# each on the same data: what the goals were set against.
GOALS = {"published": {"AP": 0.48, "AP50": 0.72}, "fit": {"AP": 0.56, "AP50": 0.88}}


def main() -> None:
    """Run what is missing, print and write `results/bccd.json`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--anchors", nargs="+", default=["fit", "published"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--runs", type=Path, default=Path("runs/bccd"))
    options = parser.parse_args()
    result: dict[str, Any] = {"model": MODEL, "epochs": options.epochs, "goals": GOALS}
    for anchors in options.anchors:
        runs = [
            run_once(options.data, options.runs, anchors=anchors, seed=seed, epochs=options.epochs)
            for seed in options.seeds
        ]
        result[anchors] = {"test": summary(runs), "runs": runs}
    print(json.dumps(result, indent=2))
    print(write_result("bccd", result))


def run_once(data: Path, folder: Path, *, anchors: str, seed: int, epochs: int) -> dict[str, Any]:
    """The figures of one training run, from its file where it is finished."""
    finished = folder / f"{anchors}-{seed}.json"
    if finished.is_file():
        return dict(json.loads(finished.read_text()))
    started = time.perf_counter()
    trained = train_on_folder(
        MODEL,
        data,
        folder / f"{anchors}-{seed}",
        overwrite=True,
        note=print,
        anchors=anchors,
        pretrained="imagenet",
        epochs=epochs,
        seed=seed,
    )
    row = {
        "seed": seed,
        "val": trained.metrics,
        "test": trained.test_metrics,
        "best_epoch": trained.best_epoch,
        "images_per_second": trained.images_per_second,
        "minutes": round((time.perf_counter() - started) / 60, 1),
    }
    finished.write_text(json.dumps(row, indent=1) + "\n")
    return row


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and sample standard deviation over the runs."""
    found: dict[str, Any] = {"seeds": len(runs)}
    for name in FIGURES:
        values = [run["test"][name] for run in runs]
        found[name] = statistics.fmean(values)
        found[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else None
    return found


if __name__ == "__main__":
    main()
