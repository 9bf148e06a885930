"""Every detector of the zoo trained on one real data set: the table in `docs/detectors.md`.

    python benchmarks/detectors.py ../shared/data/bccd [--names ...] [--device cuda] [--epochs 60]

Each run trains on `train`, chooses on `val` and reports on `test`. Heavy detectors run at a reduced
input; the table says which. A run that is finished in `--runs` is not repeated.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from machine import describe_machine, write_result
from torch.utils.flop_counter import FlopCounterMode

from flyweight.evaluation.latency import median_milliseconds
from flyweight.models.detectors import Detector, load
from flyweight.training.run import train_on_folder

TABLE = Path(__file__).parents[1] / "docs" / "detectors.md"


@dataclass(frozen=True)
class Run:
    """How a detector is trained here.

    Attributes:
        size: of the input; None for the published one.
        options: fields of its config.
        settings: fields of the recipe.
    """

    size: int | None = None
    pretrained: str = "none"
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


# A detector with a MobileNetV2 starts from ImageNet; others from random weights, since theirs are
# not to be had offline: their AP says that they learn, not how good they are.
RUNS = {
    "ssdlite320_mobilenet_v2": Run(pretrained="imagenet"),
    "ssdlite320_mobilenet_v3_large": Run(),
    "mobilenet_ssd300": Run(),
    "ssd300_vgg16": Run(settings={"lr": 3e-4}),
    "retinanet_snet": Run(),
    "retinanet": Run(
        pretrained="imagenet",
        options={"backbone": "mobilenet_v2", "neck_channels": 96, "tower_channels": (96, 96)},
    ),
    "retinanet_resnet50_fpn": Run(size=320),
    "faster_rcnn_mobilenet_v3_large_320_fpn": Run(size=320),
    "faster_rcnn_resnet50_fpn": Run(size=320),
    "faster_rcnn_vgg16": Run(size=320, settings={"lr": 3e-4}),
    "yolov3": Run(size=320, pretrained="imagenet", options={"backbone": "mobilenet_v2"}),
    "yolov3_darknet53": Run(size=320),
    "yolov4_cspdarknet53": Run(size=320),
}


def main() -> None:
    """Run what is missing, print and write the figures and the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--names", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=Path, default=Path("runs/detectors"))
    options = parser.parse_args()
    for name in options.names:
        row = run_once(name, options)
        print(json.dumps(row), flush=True)
    rows = [json.loads(path.read_text()) for path in sorted(options.runs.glob("*.json"))]
    result = {"data": options.data.name, "rows": rows}
    print(write_result("detectors", result))
    TABLE.write_text(table(result))
    print(TABLE)


def run_once(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one detector, from its file where it is finished."""
    finished = options.runs / f"{name}.json"
    if finished.is_file():
        return dict(json.loads(finished.read_text()))
    run = RUNS[name]
    started = time.perf_counter()
    trained = train_on_folder(
        name,
        options.data,
        options.runs / name,
        overwrite=True,
        note=print,
        size=run.size,
        pretrained=run.pretrained,
        anchors="fit",
        options=run.options,
        epochs=options.epochs,
        device=options.device,
        **run.settings,
    )
    minutes = (time.perf_counter() - started) / 60
    detector = load(trained.checkpoint)
    row = {
        "name": name,
        "backbone": detector.config.backbone,
        "size": detector.preprocessing.size_hw[0],
        "pretrained": run.pretrained,
        "epochs": trained.epochs,
        "test": trained.test_metrics,
        **weigh(detector),
        "images_per_second": trained.images_per_second,
        "minutes": round(minutes, 1),
        "device": options.device,
        "machine": describe_machine(),
    }
    finished.write_text(json.dumps(row, indent=1) + "\n")
    return row


def weigh(detector: Detector) -> dict[str, Any]:
    """Parameters, MACs and milliseconds of one image in torch, folded."""
    images = torch.zeros((1, *detector.preprocessing.size_hw, 3), dtype=torch.uint8)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        detector(images)

    def call() -> Any:
        with torch.inference_mode():
            return detector(images)

    return {
        "params": sum(each.numel() for each in detector.parameters()),
        "macs": counter.get_total_flops() // 2,
        "ms": round(median_milliseconds({"torch": call}, repeats=10)["torch"], 1),
    }


def table(result: dict[str, Any]) -> str:
    """The rows as Markdown."""
    lines = [
        "# Every detector on real pictures",
        "",
        f"Written by `benchmarks/detectors.py` on {result['data']}: trained on `train`, chosen on"
        " `val`, AP on `test`, anchors fitted to the data. ms is torch eager, one image.",
        "",
        "| detector | backbone | input | from | epochs | AP | AP50 | params, M | GMACs | ms "
        "| img/s | minutes |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        test = row["test"]
        lines.append(
            f"| {row['name']} | {row['backbone']} | {row['size']} | {row['pretrained']} "
            f"| {row['epochs']} | {test['AP']:.3f} | {test['AP50']:.3f} "
            f"| {row['params'] / 1e6:.2f} | {row['macs'] / 1e9:.2f} | {row['ms']:.0f} "
            f"| {row['images_per_second']:.1f} | {row['minutes']:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
