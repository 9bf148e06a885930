"""JPEG file to augmented input of the network, on one core: Flyweight beside its peers.

All sides read the same files and annotations and give 320 x 320 uint8 on one thread, interleaved:
in each round every side takes its turn. The medians over the rounds are of processor time, which
is what one core delivers, also when others use the machine; wall time stands beside it.

The peers are torchvision v2 with the SSD recipe of its detection reference, and Ultralytics' data
set with its standard augmentation (Mosaic, affine, HSV, flip), if it can be imported: it is under
the AGPL, so no part of Flyweight may depend on it, and whoever wants its row installs it apart.

    python benchmarks/input_pipeline.py ../shared/data/bccd
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from machine import write_result
from torchvision import tv_tensors
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms import v2

from flyweight.core.boxes import xyxy_to_cxcywh
from flyweight.core.image import DECODERS, read_image
from flyweight.core.preprocessing import Preprocessing, resize_image
from flyweight.data.formats import open_dataset
from flyweight.data.image_cache import CachedReader, MemoryStore
from flyweight.data.records import DetectionDataset, Record
from flyweight.transforms import build_transform
from flyweight.transforms.pictures import Picture

PRESETS = ("ssd", "ssdlite", "yolov4", "tiny_data")
CACHE_BYTES = 4 << 30
ULTRALYTICS_BATCH = 16


@dataclass(frozen=True)
class Side:
    """Makes sample `index` from a record; takes `count` records a turn.

    `warm_up` epochs are read before the first turn.
    """

    run: Callable[[Record, int], Any]
    count: int
    warm_up: int = 1


def flyweight_side(name: str, records: Sequence[Record], size: int, *, cached: bool) -> Any:
    """The preset `name`, as a training worker calls it."""
    transform = build_transform(name, Preprocessing((size, size)))
    if cached:
        transform = replace(transform, read=CachedReader(MemoryStore(CACHE_BYTES)))
    others = [Picture(each.path, each.boxes_xyxy, each.labels, each.size_hw) for each in records]

    def run(record: Record, index: int) -> Any:
        return transform(
            record.path,
            record.boxes_xyxy,
            record.labels,
            size_hw=record.size_hw,
            rng=np.random.default_rng(index),
            others=others,
        )

    return run


def torchvision_side(size: int) -> Callable[[Record, int], Any]:
    """The `ssd` preset of torchvision's detection reference, on tensors.

    The resize, there inside the model, is added, to the same input. The reference converts to
    float at the end; here all sides stay at uint8.
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

    def run(record: Record, index: int) -> Any:
        image = decode_image(read_file(str(record.path)), mode=ImageReadMode.RGB)
        boxes = tv_tensors.BoundingBoxes(
            torch.from_numpy(record.boxes_xyxy),
            format=tv_tensors.BoundingBoxFormat.XYXY,
            canvas_size=record.size_hw,
        )
        target = {"boxes": boxes, "labels": torch.from_numpy(record.labels)}
        return recipe(tv_tensors.Image(image), target)

    return run


def ultralytics_side(
    dataset: DetectionDataset, size: int, folder: Path
) -> Callable[[Record, int], Any] | None:
    """Its `YOLODataset` with the default augmentation on links to the same files in `folder`.

    It takes the partners of a Mosaic from a buffer of the pictures it has read last (eight
    batches), so it decodes one picture a sample where others decode four. None if it is missing.
    """
    os.environ.setdefault("YOLO_CONFIG_DIR", str(folder))
    try:
        from ultralytics.cfg import DEFAULT_CFG
        from ultralytics.data.dataset import YOLODataset
    except ImportError:
        print("ultralytics cannot be imported: its row is left out")
        return None
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for record in dataset.records:
        (folder / "images" / record.path.name).symlink_to(record.path.resolve())
        height, width = record.size_hw
        rows = xyxy_to_cxcywh(record.boxes_xyxy) / (width, height, width, height)
        lines = [
            " ".join([str(label), *(f"{value:.6f}" for value in row)])
            for label, row in zip(record.labels.tolist(), rows.tolist(), strict=True)
        ]
        target = folder / "labels" / f"{record.path.stem}.txt"
        target.write_text("\n".join(lines), encoding="utf-8")
    samples = YOLODataset(
        img_path=str(folder / "images"),
        imgsz=size,
        augment=True,
        hyp=DEFAULT_CFG,
        batch_size=ULTRALYTICS_BATCH,
        data={"names": dict(enumerate(dataset.class_names))},
    )
    return lambda record, index: samples[index % len(samples)]


def measure(
    sides: dict[str, Side], records: Sequence[Record], rounds: int
) -> dict[str, dict[str, float]]:
    """Medians over `rounds` for each side."""
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    wall: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        for index in range(max(8, min(side.count, len(records)) * side.warm_up)):
            side.run(records[index % len(records)], index)
    for turn in range(rounds):
        for name, side in sides.items():
            first = turn * side.count
            indices = range(first, first + side.count)
            start = time.perf_counter(), time.process_time()
            for index in indices:
                side.run(records[index % len(records)], index)
            wall[name].append((time.perf_counter() - start[0]) / side.count)
            cpu[name].append((time.process_time() - start[1]) / side.count)
    return {
        name: {
            "images_per_second_core": round(1 / statistics.median(cpu[name]), 1),
            "ms_per_image": round(statistics.median(cpu[name]) * 1e3, 3),
            "ms_per_image_best_round": round(min(cpu[name]) * 1e3, 3),
            "ms_per_image_wall": round(statistics.median(wall[name]) * 1e3, 3),
        }
        for name in sides
    }


def make_sides(dataset: DetectionDataset, size: int, images: int, folder: Path) -> dict[str, Side]:
    """All sides by name; a peer that is far slower takes fewer images, for an equally long turn."""
    records = dataset.records
    sides = {}
    for name in PRESETS:
        shown = f"{name} (Mosaic)" if name == "yolov4" else name
        plain = flyweight_side(name, records, size, cached=False)
        cached = flyweight_side(name, records, size, cached=True)
        sides[f"flyweight {shown}"] = Side(plain, images)
        sides[f"flyweight {shown}, pictures in memory"] = Side(cached, images, warm_up=3)
    sides["flyweight none"] = Side(flyweight_side("none", records, size, cached=False), images)
    sides["decode and resize"] = Side(
        lambda record, index: resize_image(read_image(record.path), (size, size)), images
    )
    sides["torchvision v2 ssd"] = Side(torchvision_side(size), max(8, images // 8))
    ultralytics = ultralytics_side(dataset, size, folder)
    if ultralytics is not None:
        sides["Ultralytics' Mosaic recipe"] = Side(ultralytics, images)
    return sides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder with a labelled data set")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=200, help="a round, for our sides")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dataset = open_dataset(arguments.data, "train")
    with tempfile.TemporaryDirectory() as folder:
        sides = make_sides(dataset, arguments.size, arguments.images, Path(folder))
        # Ultralytics sets it to another number when it is imported.
        cv2.setNumThreads(1)
        rows = measure(sides, dataset.records, arguments.rounds)
    for name, row in rows.items():
        print(f"{name:48} {row['images_per_second_core']:7.1f} images/s a core", end="")
        print(f" {row['ms_per_image']:8.3f} ms, wall {row['ms_per_image_wall']:8.3f} ms")
    ours, theirs = rows["flyweight ssd"], rows["torchvision v2 ssd"]
    ratio = ours["images_per_second_core"] / theirs["images_per_second_core"]
    print(f"flyweight ssd is {ratio:.1f} times torchvision v2")
    result = {
        "data": arguments.data.name,
        "picture_sizes_hw": sorted({record.size_hw for record in dataset.records}),
        "input_hw": [arguments.size, arguments.size],
        "rounds": arguments.rounds,
        "threads": 1,
        "time": "processor seconds, median over rounds",
        "decoders": DECODERS,
        "rows": rows,
        "ratio_to_torchvision": round(ratio, 2),
    }
    print(f"written to {write_result('input_pipeline', result)}")


if __name__ == "__main__":
    main()
