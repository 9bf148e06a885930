"""A teacher that needs no network: it sees the colours of rectangles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from flyweight.core.detections import Detections
from flyweight.core.image import write_image
from flyweight.data.records import DetectionDataset, Record
from flyweight.labeling.labeler import Labeler
from flyweight.labeling.teacher import NamedTeacher
from flyweight.labeling.views import make_views
from tests.labeling.plain_detections import detections_of

CLASSES = ("red", "green")
COLOURS = np.array([[255, 0, 0], [0, 255, 0]])
SIZE_HW = (48, 80)


@dataclass
class ColourTeacher:
    """Finds the hull of the red and of the green pixels of a picture; `looks` counts pictures."""

    class_names: tuple[str, ...] = CLASSES
    score: float = 0.9
    looks: int = 0

    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `flyweight.labeling.teacher.Teacher`."""
        self.looks += len(images)
        return [self._predict(image) for image in images]

    def _predict(self, image: np.ndarray) -> Detections:
        boxes, labels = [], []
        for label, colour in enumerate(COLOURS):
            rows, columns = np.nonzero(np.abs(image.astype(int) - colour).sum(axis=2) < 60)
            if len(rows):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                labels.append(label)
        # the larger, the surer
        areas = np.array([(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes])
        return detections_of(
            np.array(boxes).reshape(-1, 4), self.score * np.minimum(1, areas / 400), labels
        )


def draw(folder: Path, count: int, *, seed: int = 0) -> DetectionDataset:
    """Pictures `00.png` ..., some in a folder of their own, each with a rectangle or two."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(count):
        image = np.full((*SIZE_HW, 3), 120, np.uint8)
        labels = np.arange(int(rng.integers(1, 3)))
        # one in the left half, one in the right
        low = rng.integers(0, 16, (len(labels), 2)) + np.array([[0, 0], [40, 0]])[: len(labels)]
        boxes = np.concatenate([low, low + rng.integers(8, 24, (len(labels), 2))], axis=1)
        for label, (x1, y1, x2, y2) in zip(labels, boxes.tolist(), strict=True):
            image[y1:y2, x1:x2] = COLOURS[label]
        path = folder / ("sub" if number % 3 == 2 else "") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image)
        none = np.zeros(len(labels), bool)
        records.append(Record(number, path, SIZE_HW, boxes.astype(np.float32), labels, none, none))
    return DetectionDataset(tuple(records), CLASSES, folder, "val", "coco")


@pytest.fixture
def labelled(tmp_path: Path) -> DetectionDataset:
    """12 pictures with 12 to 24 objects."""
    return draw(tmp_path / "labelled", 12, seed=1)


@pytest.fixture
def unlabelled(tmp_path: Path) -> DetectionDataset:
    """11 pictures in a folder `pictures`."""
    return draw(tmp_path / "pictures", 11, seed=2)


@pytest.fixture
def teacher() -> ColourTeacher:
    return ColourTeacher()


@pytest.fixture
def labeler(teacher: ColourTeacher) -> Labeler:
    """One teacher, two views."""
    return make_labeler(teacher)


def make_labeler(*teachers: ColourTeacher, scales: Sequence[float] = (1.0,)) -> Labeler:
    named = [
        NamedTeacher(f"teacher{number}", f"{number:064d}", each, np.arange(2))
        for number, each in enumerate(teachers)
    ]
    return Labeler(named, make_views(scales, flip=True))


@pytest.fixture
def labeler_of() -> Callable[..., Labeler]:
    """`labeler_of(teacher, ..., scales=...)`."""
    return make_labeler
