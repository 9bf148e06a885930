"""Every detector trained on real pictures: the tables in `docs/detectors.md`.

    python benchmarks/detectors.py ../shared/data/bccd [--names ...] [--full] [--device cuda]
    python benchmarks/detectors.py ../shared/data/voc6

The folder's name chooses the list of runs. On `bccd` a run trains on `train`, chooses on `val` and
reports on `test`; `voc6` has no `test`, so it is evaluated once, after the last epoch, on `val`. A
run that is finished in `--runs` is not repeated, so the script can be stopped and called again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from machine import write_result
from torch.utils.flop_counter import FlopCounterMode

from flyweight.evaluation.latency import median_milliseconds
from flyweight.models.detectors import Detector, load
from flyweight.training.run import train_on_folder

DOCS = Path(__file__).parents[1] / "docs" / "detectors.md"
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Run:
    """How a detector is trained here.

    Attributes:
        beat: AP on the held-back images that shows that it learns, set before the run.
        epochs: passes over the training images on two CPU cores.
        size: of the input on two CPU cores; None for the published one.
        width: channel multiplier on two CPU cores.
        options: fields of its config.
        settings: fields of the recipe.
    """

    beat: float
    epochs: int
    size: int | None = None
    width: float | None = None
    pretrained: str = "none"
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


FULL_EPOCHS = 100
SLIM_RETINANET = {"backbone": "mobilenet_v2", "neck_channels": 96, "tower_channels": (96, 96)}
FEW_ROIS = {"roi_samples": 64, "rpn_candidates_train": 500, "proposals_train": 200}
SMALL_BATCH = {"batch_size": 8}
# Random weights without any norm did not learn in the time there is (docs/experiments.md).
NORMED_TOWERS = {"norm": "batch", "neck_channels": 128}
NORMED_VGG = {"backbone_norm": "batch", "norm": "batch"}
NARROW_ROIS = FEW_ROIS | {"neck_channels": 128, "hidden_channels": 256}

# A backbone of MobileNetV2 starts from ImageNet, the others from random weights, since theirs are
# not to be had offline: what they show is that they learn, not how good they can be.
RUNS: dict[str, dict[str, Run]] = {
    "bccd": {
        "retinanet_snet": Run(beat=0.15, epochs=60),
        "yolov3": Run(
            beat=0.4,
            epochs=25,
            size=224,
            pretrained="imagenet",
            options={"backbone": "mobilenet_v2"},
        ),
        "retinanet": Run(
            beat=0.4, epochs=40, size=224, pretrained="imagenet", options=SLIM_RETINANET
        ),
        "ssdlite320_mobilenet_v3_large": Run(beat=0.15, epochs=30),
        "mobilenet_ssd300": Run(beat=0.15, epochs=30, size=224),
        "faster_rcnn_mobilenet_v3_large_320_fpn": Run(
            beat=0.15, epochs=12, size=320, options=FEW_ROIS, settings=SMALL_BATCH
        ),
        "yolov3_darknet53": Run(beat=0.15, epochs=12, size=128, settings=SMALL_BATCH),
        "yolov4_cspdarknet53": Run(beat=0.15, epochs=9, size=128, settings=SMALL_BATCH),
        "retinanet_resnet50_fpn": Run(
            beat=0.15, epochs=30, size=160, width=0.5, options=NORMED_TOWERS, settings=SMALL_BATCH
        ),
        "faster_rcnn_resnet50_fpn": Run(
            beat=0.15, epochs=30, size=160, width=0.5, options=NARROW_ROIS, settings=SMALL_BATCH
        ),
        "retinanet_resnet101_fpn": Run(
            beat=0.15, epochs=30, size=160, width=0.25, options=NORMED_TOWERS, settings=SMALL_BATCH
        ),
        "faster_rcnn_resnet101_fpn": Run(
            beat=0.15, epochs=30, size=160, width=0.25, options=NARROW_ROIS, settings=SMALL_BATCH
        ),
        "ssd300_vgg16": Run(
            beat=0.15, epochs=20, width=0.25, options=NORMED_VGG, settings=SMALL_BATCH
        ),
        "faster_rcnn_vgg16": Run(
            beat=0.15,
            epochs=30,
            size=224,
            width=0.25,
            options=NORMED_VGG | FEW_ROIS | {"hidden_channels": 512},
            settings=SMALL_BATCH,
        ),
    },
    "voc6": {
        "ssdlite320_mobilenet_v2": Run(beat=0.2, epochs=6, size=224, pretrained="imagenet"),
        "yolov3": Run(
            beat=0.15,
            epochs=6,
            size=224,
            pretrained="imagenet",
            options={"backbone": "mobilenet_v2"},
        ),
        "retinanet_snet": Run(beat=0.02, epochs=12),
        "mobilenet_ssd300": Run(beat=0.02, epochs=4, size=224),
    },
}


def main() -> None:
    """Run what is missing, print and write the figures and the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--names", nargs="+", help="of the detectors to train; all by default")
    parser.add_argument(
        "--full", action="store_true", help=f"published sizes, {FULL_EPOCHS} epochs: for a GPU"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=Path, default=Path("runs/detectors"))
    parser.add_argument("--no-table", action="store_true", help="train only, time nothing")
    options = parser.parse_args()
    runs = RUNS[options.data.name]
    folder = options.runs / (options.data.name + ("-full" if options.full else ""))
    for name in options.names or runs:
        print(json.dumps(run_once(name, runs[name], folder, options)), flush=True)
    if options.no_table:
        return
    rows = [
        json.loads((folder / f"{name}.json").read_text())
        for name in runs
        if (folder / f"{name}.json").is_file()
    ]
    detectors = {row["name"]: load(folder / row["name"] / "best.safetensors") for row in rows}
    milliseconds = time_all(detectors)
    for row in rows:
        row |= weigh(detectors[row["name"]]) | {"ms": round(milliseconds[row["name"]], 1)}
    result = {"data": options.data.name, "full": options.full, "rows": rows}
    print(write_result(f"detectors_{folder.name}", result))
    DOCS.write_text(document())
    print(DOCS)


def run_once(name: str, run: Run, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one training run, from its file where it is finished."""
    finished = folder / f"{name}.json"
    if finished.is_file():
        return dict(json.loads(finished.read_text()))
    epochs = FULL_EPOCHS if options.full else run.epochs
    settings = dict(run.settings)
    if options.data.name == "voc6":
        settings["eval_every"] = epochs
    started = time.perf_counter()
    trained = train_on_folder(
        name,
        options.data,
        folder / name,
        overwrite=True,
        note=print,
        size=None if options.full else run.size,
        width=None if options.full else run.width,
        pretrained=run.pretrained,
        anchors="fit",
        options=run.options,
        epochs=epochs,
        device=options.device,
        **settings,
    )
    minutes = (time.perf_counter() - started) / 60
    detector = load(trained.checkpoint)
    row = {
        "name": name,
        "backbone": detector.config.backbone,
        "size": detector.preprocessing.size_hw[0],
        "width": detector.config.width,
        "pretrained": run.pretrained,
        "epochs": trained.epochs,
        "batch_size": trained.recipe["batch_size"],
        "beat": run.beat,
        "metrics": trained.test_metrics or trained.metrics,
        "images_per_second": trained.images_per_second,
        "minutes": round(minutes, 1),
        "device": options.device,
        "threads": torch.get_num_threads(),
    }
    finished.write_text(json.dumps(row, indent=1) + "\n")
    return row


def time_all(detectors: dict[str, Detector]) -> dict[str, float]:
    """Median milliseconds of one image in torch, of all detectors in turns."""

    def call(detector: Detector) -> Callable[[], object]:
        images = torch.zeros((1, *detector.preprocessing.size_hw, 3), dtype=torch.uint8)

        def run() -> object:
            with torch.inference_mode():
                return detector(images)

        return run

    return median_milliseconds({name: call(each) for name, each in detectors.items()}, repeats=10)


def weigh(detector: Detector) -> dict[str, int]:
    """Parameters and MACs of one image."""
    images = torch.zeros((1, *detector.preprocessing.size_hw, 3), dtype=torch.uint8)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        detector(images)
    return {
        "params": sum(each.numel() for each in detector.parameters()),
        "macs": counter.get_total_flops() // 2,
    }


def document() -> str:
    """`docs/detectors.md` from all results there are."""
    lines = [
        "# Every detector on real pictures",
        "",
        "Written by `benchmarks/detectors.py`. Anchors are fitted to the data. A start from `none`"
        " means random weights: those rows show that the detector learns, not how good it can be."
        " *beats* is the AP that was set before the run. ms is torch, one image, all rows timed in"
        " turns; img/s and minutes are of the training on one core, which shared the machine with"
        " others. `ssdlite320_mobilenet_v2` on BCCD has a benchmark of its own, three seeds of 100"
        " epochs: AP 0.582 ± 0.010 (`benchmarks/bccd.py`).",
    ]
    for path in sorted(RESULTS.glob("detectors_*.json")):
        lines += ["", *section(json.loads(path.read_text()))]
    return "\n".join(lines) + "\n"


def section(result: dict[str, Any]) -> list[str]:
    """The heading and the table of one result."""
    at = "at the published sizes" if result["full"] else "at reduced size, on CPU"
    held_back = (
        "evaluated once, after the last epoch, on `val`"
        if result["data"] == "voc6"
        else "chosen on `val`, reported on `test`"
    )
    lines = [
        f"## {result['data']}, {at}",
        "",
        f"Trained on `train`, {held_back}.",
        "",
        "| detector | backbone | width | input | from | epochs | AP | AP50 | beats | params, M "
        "| GMACs | ms | img/s | minutes |",
        "|---|---|---:|---:|---|---:|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        metrics = row["metrics"]
        beats = "yes" if metrics["AP"] > row["beat"] else "**no**"
        lines.append(
            f"| {row['name']} | {row['backbone']} | {row['width']:g} | {row['size']} "
            f"| {row['pretrained']} | {row['epochs']} | {metrics['AP']:.3f} "
            f"| {metrics['AP50']:.3f} | {row['beat']:g}: {beats} | {row['params'] / 1e6:.2f} "
            f"| {row['macs'] / 1e9:.2f} | {row['ms']:.0f} | {row['images_per_second']:.1f} "
            f"| {row['minutes']:.0f} |"
        )
    return lines


if __name__ == "__main__":
    main()
