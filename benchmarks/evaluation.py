"""AP of 5,000 images with 100 detections each over 80 classes, beside pycocotools.

    python benchmarks/evaluation.py [--images 5000]

Both get the same generated boxes; the figures of both are compared, too.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from machine import write_result
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from flyweight.core.detections import Detections
from flyweight.data.records import DetectionDataset, Record
from flyweight.evaluation import average_precision

Result = TypeVar("Result")

CLASSES, OBJECTS, DETECTIONS = 80, 7, 100
SIZE_HW = (480, 640)
STATS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR100": 8}


def generate(images: int) -> tuple[DetectionDataset, list[Detections]]:
    """Objects, two thirds of them found with jitter, among false alarms of low scores."""
    rng = np.random.default_rng(0)
    records, detections = [], []
    for number in range(images):
        boxes, labels = _boxes(rng, OBJECTS), rng.integers(0, CLASSES, OBJECTS)
        records.append(
            Record(
                image_id=number,
                path=Path(f"{number}.jpg"),
                size_hw=SIZE_HW,
                boxes_xyxy=boxes,
                labels=labels,
                crowd=rng.random(OBJECTS) < 0.02,
                difficult=np.zeros(OBJECTS, bool),
            )
        )
        hit = rng.random(OBJECTS) < 0.67
        count = DETECTIONS - int(hit.sum())
        detections.append(
            Detections(
                np.concatenate([boxes[hit] + rng.normal(0, 5, (hit.sum(), 4)), _boxes(rng, count)]),
                np.concatenate([rng.beta(4, 2, hit.sum()), rng.beta(1, 8, count)]),
                np.concatenate([labels[hit], rng.integers(0, CLASSES, count)]),
            )
        )
    names = tuple(f"class-{label}" for label in range(CLASSES))
    return DetectionDataset(tuple(records), names, Path(), "val", "coco"), detections


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """`[count, 4]` xyxy, sides from 8 to 300 pixels."""
    low = rng.uniform(0, 340, (count, 2))
    sides = np.exp(rng.uniform(np.log(8), np.log(300), (count, 2)))
    return np.concatenate([low, low + sides], axis=1).astype(np.float32)


def with_pycocotools(dataset: DetectionDataset, detections: list[Detections]) -> np.ndarray:
    """The twelve figures of the reference code, from the same arrays."""
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id, (record, found) in enumerate(zip(dataset.records, detections, strict=True), 1):
        for box, label, crowd in zip(record.boxes_xyxy, record.labels, record.crowd, strict=True):
            xywh = [*box[:2].tolist(), *(box[2:].astype(np.float64) - box[:2]).tolist()]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(label) + 1,
                    "bbox": xywh,
                    "area": xywh[2] * xywh[3],
                    "iscrowd": int(crowd),
                }
            )
        for box, label, score in zip(found.boxes_xyxy, found.labels, found.scores, strict=True):
            xywh = [*box[:2].tolist(), *(box[2:].astype(np.float64) - box[:2]).tolist()]
            results.append(
                {
                    "image_id": image_id,
                    "category_id": int(label) + 1,
                    "bbox": xywh,
                    "score": float(score),
                }
            )
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": n} for n in range(1, len(dataset) + 1)],
        "categories": [{"id": n + 1, "name": name} for n, name in enumerate(dataset.class_names)],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats)


def timed(call: Callable[[], Result]) -> tuple[Result, float, float]:
    """What the call gives, its seconds on the clock and its seconds of processor time.

    Neither side uses more than one core, so the latter is what a free machine would need.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Run both once, in turn, and keep the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--no-result", action="store_true", help="do not write the JSON")
    arguments = parser.parse_args()
    dataset, detections = generate(arguments.images)
    average_precision(dataset.subset(range(10)), detections[:10])  # imports

    ours, ours_wall, ours_cpu = timed(lambda: average_precision(dataset, detections))
    theirs, theirs_wall, theirs_cpu = timed(lambda: with_pycocotools(dataset, detections))

    figures = {name: getattr(ours, name) for name in STATS}
    difference = max(abs(figures[name] - theirs[position]) for name, position in STATS.items())
    result = {
        "images": arguments.images,
        "detections_per_image": DETECTIONS,
        "classes": CLASSES,
        "flyweight_s": round(ours_wall, 2),
        "flyweight_cpu_s": round(ours_cpu, 2),
        "pycocotools_s": round(theirs_wall, 2),
        "pycocotools_cpu_s": round(theirs_cpu, 2),
        "ratio": round(theirs_cpu / ours_cpu, 1),
        "largest_difference_of_a_figure": float(difference),
        "AP": figures["AP"],
    }
    for key, value in result.items():
        print(f"{key:<32}{value}")
    if not arguments.no_result:
        print(write_result("evaluation", result))


if __name__ == "__main__":
    main()
