"""Data sets without pictures: boxes given by hand, or random ones with crowds and ties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyweight.core.detections import Detections
from flyweight.data.records import DetectionDataset, Record

Scenes = tuple[DetectionDataset, list[Detections]]


def labelled(images: Sequence[Sequence[Any]], classes: int = 2) -> DetectionDataset:
    """A data set; each object is (x1, y1, x2, y2, label), with "crowd" or "difficult" behind."""
    records = []
    for number, objects in enumerate(images):
        flags = [each[5] if len(each) > 5 else "" for each in objects]
        records.append(
            Record(
                image_id=number,
                path=Path(f"{number}.jpg"),
                size_hw=(480, 640),
                boxes_xyxy=np.array([each[:4] for each in objects], np.float32).reshape(-1, 4),
                labels=np.array([each[4] for each in objects], np.int64),
                crowd=np.array([flag == "crowd" for flag in flags], bool),
                difficult=np.array([flag == "difficult" for flag in flags], bool),
            )
        )
    names = tuple(f"class-{label}" for label in range(classes))
    return DetectionDataset(tuple(records), names, Path("nowhere"), "test", "coco")


def detected(*rows: Sequence[float]) -> Detections:
    """Detections of one image, each (x1, y1, x2, y2, label, score)."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32),
        table[:, 5].astype(np.float32),
        table[:, 4].astype(np.int64),
    )


def noisy(record: Record, classes: int, rng: np.random.Generator, decimals: int = 8) -> Detections:
    """Each object found twice or not at all, sometimes as another class, and boxes at random."""
    boxes = np.repeat(record.boxes_xyxy, 2, axis=0)
    boxes = boxes + rng.normal(0, 0.12, boxes.shape) * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    labels = np.repeat(record.labels, 2)
    labels = np.where(rng.random(len(labels)) < 0.85, labels, rng.integers(0, classes, len(labels)))
    kept = np.repeat(rng.random(len(record)) < 0.85, 2)
    low = rng.uniform(0, 300, (5, 2))
    extra = np.concatenate([low, low + rng.uniform(10, 200, (5, 2))], axis=1)
    return Detections(
        np.concatenate([boxes[kept], extra]),
        rng.random(int(kept.sum()) + 5).round(decimals).astype(np.float32),
        np.concatenate([labels[kept], rng.integers(0, classes, 5)]),
    )


def random_data(seed: int, images: int = 20, classes: int = 4) -> DetectionDataset:
    """Objects of all classes but the last, some crowds, some difficult, some images empty."""
    rng = np.random.default_rng(seed)
    scenes = []
    for _ in range(images):
        count = int(rng.integers(0, 9))
        low = rng.uniform(0, 300, (count, 2))
        boxes = np.concatenate([low, low + np.exp(rng.uniform(2.5, 5, (count, 2)))], axis=1)
        flags = rng.choice(["", "crowd", "difficult"], count, p=[0.75, 0.15, 0.1]).tolist()
        labels = rng.integers(0, classes - 1, count).tolist()
        scenes.append(
            [(*box, label, flag) for box, label, flag in zip(boxes, labels, flags, strict=True)]
        )
    return labelled(scenes, classes)


@pytest.fixture
def labels_of() -> Callable[..., DetectionDataset]:
    """`labels_of(images, classes=2)`, see `labelled`."""
    return labelled


@pytest.fixture
def finds() -> Callable[..., Detections]:
    """`finds(row, row, ...)`, see `detected`."""
    return detected


@pytest.fixture
def random_scenes() -> Callable[..., Scenes]:
    """`random_scenes(seed, images=20, decimals=8)`: labelled images and what was found in them."""

    def scenes(seed: int, *, images: int = 20, decimals: int = 8) -> Scenes:
        data = random_data(seed, images)
        rng = np.random.default_rng(seed + 1000)
        return data, [noisy(each, len(data.class_names), rng, decimals) for each in data.records]

    return scenes


@pytest.fixture
def find_again() -> Callable[..., list[Detections]]:
    """`find_again(dataset, seed, share=1)`: found with other noise, `share` of it kept."""

    def again(data: DetectionDataset, seed: int, *, share: float = 1.0) -> list[Detections]:
        rng = np.random.default_rng(seed)
        found = []
        for record in data.records:
            each = noisy(record, len(data.class_names), rng)
            kept = rng.random(len(each)) < share
            found.append(Detections(each.boxes_xyxy[kept], each.scores[kept], each.labels[kept]))
        return found

    return again
