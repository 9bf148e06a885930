"""JPEG file to augmented input of the network: Flyweight beside torchvision v2, on one core.

Both sides read the same files and annotations and do the SSD recipe to 320 x 320 uint8 on one
thread, interleaved: in each round every side takes its turn. The medians over the rounds are of
processor time, which is what one core delivers, also when others use the machine; wall time
stands beside it.

    python benchmarks/input_pipeline.py ../shared/data/bccd
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from machine import write_result
from torchvision import tv_tensors
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms import v2

from flyweight.core.image import read_image
from flyweight.core.preprocessing import Preprocessing, resize_image
from flyweight.data.formats import open_dataset
from flyweight.data.records import Record
from flyweight.transforms import build_transform

Side = Callable[[Record, int], Any]


def flyweight_side(name: str, size: int) -> Side:
    """The preset `name`, as a training worker calls it."""
    transform = build_transform(name, Preprocessing((size, size)))

    def run(record: Record, seed: int) -> Any:
        rng = np.random.default_rng(seed)
        return transform(
            record.path, record.boxes_xyxy, record.labels, size_hw=record.size_hw, rng=rng
        )

    return run


def torchvision_side(size: int) -> Side:
    """The `ssd` preset of torchvision's detection reference, on tensors.

    The resize, there inside the model, is added, to the same input. The reference converts to
    float at the end; here both sides stay at uint8.
    """
    recipe = v2.Compose(
        [
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill={tv_tensors.Image: (123, 117, 104), "others": 0}),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(p=0.5),
            v2.SanitizeBoundingBoxes(),
            v2.Resize((size, size), antialias=True),
        ]
    )

    def run(record: Record, seed: int) -> Any:
        image = decode_image(read_file(str(record.path)), mode=ImageReadMode.RGB)
        boxes = tv_tensors.BoundingBoxes(
            torch.from_numpy(record.boxes_xyxy),
            format=tv_tensors.BoundingBoxFormat.XYXY,
            canvas_size=record.size_hw,
        )
        target = {"boxes": boxes, "labels": torch.from_numpy(record.labels)}
        return recipe(tv_tensors.Image(image), target)

    return run


def resize_side(size: int) -> Side:
    """Whole decoding and one resize: what no augmentation costs."""
    return lambda record, seed: resize_image(read_image(record.path), (size, size))


def measure(
    sides: dict[str, tuple[Side, int]], records: Sequence[Record], rounds: int
) -> dict[str, dict[str, float]]:
    """Medians over `rounds` for each side; the number is how many images it takes a round."""
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    wall: dict[str, list[float]] = {name: [] for name in sides}
    for side, _ in sides.values():
        for record in records[:8]:
            side(record, 0)
    for turn in range(rounds):
        for name, (side, count) in sides.items():
            first = turn * count
            chosen = [(records[i % len(records)], i) for i in range(first, first + count)]
            start = time.perf_counter(), time.process_time()
            for record, seed in chosen:
                side(record, seed)
            wall[name].append((time.perf_counter() - start[0]) / count)
            cpu[name].append((time.process_time() - start[1]) / count)
    return {
        name: {
            "images_per_second_core": round(1 / statistics.median(cpu[name]), 1),
            "ms_per_image": round(statistics.median(cpu[name]) * 1e3, 3),
            "ms_per_image_best_round": round(min(cpu[name]) * 1e3, 3),
            "ms_per_image_wall": round(statistics.median(wall[name]) * 1e3, 3),
        }
        for name in sides
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder with a labelled data set")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=200, help="a round, for our sides")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    records = open_dataset(arguments.data, "train").records
    size, images = arguments.size, arguments.images
    sides = {
        "flyweight ssd": (flyweight_side("ssd", size), images),
        "flyweight ssdlite": (flyweight_side("ssdlite", size), images),
        "flyweight none": (flyweight_side("none", size), images),
        "decode and resize": (resize_side(size), images),
        # Far slower, so fewer images make an equally long turn.
        "torchvision v2 ssd": (torchvision_side(size), max(8, images // 8)),
    }
    rows = measure(sides, records, arguments.rounds)
    for name, row in rows.items():
        print(f"{name:20} {row['images_per_second_core']:8.1f} images/s a core", end="")
        print(f" {row['ms_per_image']:8.3f} ms, wall {row['ms_per_image_wall']:8.3f} ms")
    ours, theirs = rows["flyweight ssd"], rows["torchvision v2 ssd"]
    ratio = ours["images_per_second_core"] / theirs["images_per_second_core"]
    print(f"flyweight ssd is {ratio:.1f} times torchvision v2")
    result = {
        "data": arguments.data.name,
        "picture_sizes_hw": sorted({record.size_hw for record in records}),
        "input_hw": [size, size],
        "rounds": arguments.rounds,
        "threads": 1,
        "time": "processor seconds, median over rounds",
        "rows": rows,
        "ratio_to_torchvision": round(ratio, 2),
    }
    print(f"written to {write_result('input_pipeline', result)}")


if __name__ == "__main__":
    main()
