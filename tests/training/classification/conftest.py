"""Pictures of coloured shapes in folders of classes, easy enough to be learnt in seconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from flyweight.core.image import write_image
from flyweight.data.records import DetectionDataset, Record

SHAPES = ("block", "cross", "disc")
COLOURS = ((220, 60, 40), (40, 200, 60), (50, 70, 230))


def draw_shape(label: int, rng: np.random.Generator) -> np.ndarray:
    """RGB uint8 `[48, 56, 3]`: one shape of its class's colour on dark noise."""
    image = rng.integers(40, 100, (48, 56, 3)).astype(np.uint8)
    x, y, radius = (int(rng.integers(*span)) for span in ((18, 38), (16, 32), (9, 15)))
    if SHAPES[label] == "disc":
        cv2.circle(image, (x, y), radius, COLOURS[label], -1)
    elif SHAPES[label] == "block":
        cv2.rectangle(image, (x - radius, y - radius), (x + radius, y + radius), COLOURS[label], -1)
    else:
        cv2.line(image, (x - radius, y), (x + radius, y), COLOURS[label], 6)
        cv2.line(image, (x, y - radius), (x, y + radius), COLOURS[label], 6)
    return image


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 20 images each, without splits."""
    root = tmp_path_factory.mktemp("images") / "shapes"
    rng = np.random.default_rng(0)
    for label, name in enumerate(SHAPES):
        (root / name).mkdir(parents=True)
        for number in range(20):
            write_image(root / name / f"{number}.png", draw_shape(label, rng))
    return root


def region_set(labels: list[int], names: tuple[str, ...]) -> DetectionDataset:
    """Records of one region each, without files behind them."""
    no = np.zeros(1, bool)
    records = tuple(
        Record(
            image_id=place,
            path=Path(f"{place}.png"),
            size_hw=(10, 10),
            boxes_xyxy=np.array([[0, 0, 10, 10]], np.float32),
            labels=np.array([label]),
            crowd=no,
            difficult=no,
        )
        for place, label in enumerate(labels)
    )
    return DetectionDataset(records, names, Path("nowhere"), "train", "folders")
