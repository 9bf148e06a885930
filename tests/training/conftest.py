"""A data set of coloured rectangles and a detector small enough to train in a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from flyweight.data.records import DetectionDataset, Record
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.zoo import build
from flyweight.training import loop
from flyweight.training.recipe import Recipe

CLASSES = ("red", "green")
COLOURS = {0: (0, 0, 200), 1: (0, 200, 0)}


def draw_dataset(folder: Path, split: str, images: int, seed: int) -> DetectionDataset:
    """Grey noise with one to three rectangles on it; the last image has none."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(images):
        height, width = int(rng.integers(60, 90)), int(rng.integers(60, 90))
        image = rng.integers(90, 130, (height, width, 3), dtype=np.uint8)
        count = 0 if number == images - 1 else int(rng.integers(1, 4))
        labels = rng.integers(0, 2, count)
        low = rng.integers(0, 30, (count, 2))
        boxes = np.concatenate([low, low + rng.integers(15, 30, (count, 2))], axis=1)
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            image[y1:y2, x1:x2] = COLOURS[label]
        path = folder / f"{split}_{number}.png"
        cv2.imwrite(str(path), image)
        record = Record(
            image_id=number,
            path=path,
            size_hw=(height, width),
            boxes_xyxy=boxes.astype(np.float32).reshape(-1, 4),
            labels=labels.astype(np.int64),
            crowd=np.zeros(count, bool),
            difficult=np.zeros(count, bool),
        )
        records.append(record)
    return DetectionDataset(tuple(records), CLASSES, folder, split, "coco")


@pytest.fixture(scope="session")
def train_set(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    """14 images: with batches of 4, three steps an epoch."""
    return draw_dataset(tmp_path_factory.mktemp("train_images"), "train", 14, seed=1)


@pytest.fixture(scope="session")
def val_set(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    """4 images."""
    return draw_dataset(tmp_path_factory.mktemp("val_images"), "val", 4, seed=2)


def tiny_detector(seed: int = 0) -> Detector:
    """Few layers, 64 x 64 pixels, two classes."""
    torch.manual_seed(seed)
    return build("ssdlite320_mobilenet_v1", classes=CLASSES, size=64, width=0.25)


@pytest.fixture
def new_detector() -> Callable[..., Detector]:
    """Builds the tiny detector; the same seed gives the same weights."""
    return tiny_detector


@pytest.fixture(autouse=True)
def _quick_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, and no report at the end: test_report looks at that."""
    torch.set_num_threads(1)
    monkeypatch.setattr(loop, "report_run", lambda *_, **__: None)


@pytest.fixture
def quick() -> Recipe:
    """Two epochs of three steps on the CPU."""
    return Recipe(epochs=2, batch_size=4, device="cpu", warmup_epochs=0.5, eval_every=2)
