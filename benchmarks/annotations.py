"""Time and memory to open a COCO data set of a million images: `results/annotations.json`.

    python benchmarks/annotations.py FOLDER [--images 1000000 --objects 7]

The set is generated in FOLDER once (a gigabyte of JSON and as many empty picture files); it is
opened in a process of its own, whose largest resident memory is read when it has ended.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
from machine import write_result

CLASSES = 80
OPEN = """
import json, sys, time
from pathlib import Path
started = time.perf_counter()
from flyweight.data.formats import open_dataset
dataset = open_dataset(Path(sys.argv[1]), "train")
seconds = time.perf_counter() - started
objects = sum(len(record) for record in dataset.records)
print(json.dumps({"images": len(dataset), "objects": objects, "seconds": round(seconds, 1)}))
"""


def generate(folder: Path, *, images: int, objects: float) -> Path:
    """A data set of so many images with so many objects each on average, unless it is there."""
    path = folder / "annotations" / "instances_train.json"
    if path.is_file():
        return path
    pictures = folder / "images" / "train"
    pictures.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    counts = rng.poisson(objects, images).tolist()
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        entries = (
            {"id": number, "file_name": f"{number:012d}.jpg", "width": 640, "height": 480}
            for number in range(images)
        )
        file.write('{"images": [')
        for number, entry in enumerate(entries):
            os.close(os.open(pictures / str(entry["file_name"]), os.O_CREAT | os.O_WRONLY))
            file.write((", " if number else "") + json.dumps(entry))
        file.write('], "annotations": [')
        identifier = 0
        for number, count in enumerate(counts):
            for box in (rng.integers(1, 20000, (count, 4)) / 100).tolist():
                annotation = {
                    "id": identifier,
                    "image_id": number,
                    "category_id": identifier % CLASSES + 1,
                    "bbox": box,
                    "area": round(box[2] * box[3], 4),
                    "iscrowd": 0,
                }
                file.write((", " if identifier else "") + json.dumps(annotation))
                identifier += 1
        categories = [{"id": number + 1, "name": f"class-{number}"} for number in range(CLASSES)]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    part.rename(path)
    return path


def main() -> None:
    """Generate, open, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--objects", type=float, default=7, help="an image, on average; COCO's")
    options = parser.parse_args()
    path = generate(options.folder, images=options.images, objects=options.objects)
    run = subprocess.run(
        [sys.executable, "-c", OPEN, str(options.folder)], stdout=subprocess.PIPE, check=True
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    result = json.loads(run.stdout) | {
        "file_gb": round(path.stat().st_size / 1e9, 2),
        "peak_memory_gb": round(peak / 1e9, 2),
    }
    print(result)
    print(write_result("annotations", result))


if __name__ == "__main__":
    main()
