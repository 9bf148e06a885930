"""SSDlite320-MobileNetV2 on photos of playing cards: a second real data set, one seed.

    python benchmarks/cards.py ../shared/data/cards [--epochs 40]

What `flyweight train ssdlite320_mobilenet_v2 --pretrained imagenet --anchors fit` does. Where the
data has no split `val`, part of `train` is set aside to choose on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from machine import write_result

from flyweight.training.run import train_on_folder

MODEL = "ssdlite320_mobilenet_v2"


def main() -> None:
    """Train, print and write `results/cards.json`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--run", type=Path, default=Path("runs/cards"))
    options = parser.parse_args()
    started = time.perf_counter()
    trained = train_on_folder(
        MODEL,
        options.data,
        options.run,
        overwrite=True,
        note=print,
        anchors="fit",
        pretrained="imagenet",
        epochs=options.epochs,
    )
    result = {
        "model": MODEL,
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "val": trained.metrics,
        "test": trained.test_metrics,
        "images_per_second": trained.images_per_second,
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "notes": list(trained.notes),
    }
    print(json.dumps(result, indent=2))
    print(write_result("cards", result))


if __name__ == "__main__":
    main()
