"""Any predictor over a data set: files read, classes matched by name, boxes brought back."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from flyweight.core.detections import Detections
from flyweight.core.errors import InputError
from flyweight.core.image import write_image
from flyweight.core.preprocessing import Preprocessing
from flyweight.data.records import DetectionDataset, Record
from flyweight.evaluation import detect, evaluate

SIZE_HW = (240, 320)


@dataclass
class BrightBox:
    """Finds the bright rectangle of a dark image, at whatever size the image is read."""

    class_names: tuple[str, ...]
    label: int = 0
    preprocessing: Preprocessing | None = None
    widths: list[int] = field(default_factory=list)

    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Detections]:
        results = []
        for image in images:
            self.widths.append(image.shape[1])
            rows, columns = np.nonzero(image.mean(axis=2) > 128)
            box = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
            results.append(
                Detections(np.array(box, np.float32), np.ones(1), np.array([self.label]))
            )
        return results


@pytest.fixture
def bright(tmp_path: Path) -> DetectionDataset:
    """Five JPEG files with one bright rectangle each, classes "box" and "lamp"."""
    records = []
    for number in range(5):
        image = np.full((*SIZE_HW, 3), 10, np.uint8)
        x, y = 16 + 16 * number, 32
        image[y : y + 96, x : x + 128] = 240
        path = tmp_path / f"{number}.jpg"
        write_image(path, image)
        records.append(
            Record(
                image_id=number,
                path=path,
                size_hw=SIZE_HW,
                boxes_xyxy=np.array([[x, y, x + 128, y + 96]], np.float32),
                labels=np.zeros(1, np.int64),
                crowd=np.zeros(1, bool),
                difficult=np.zeros(1, bool),
            )
        )
    return DetectionDataset(tuple(records), ("box", "lamp"), tmp_path, "test", "coco")


def test_every_image_is_read_and_counted(bright: DetectionDataset) -> None:
    seen: list[tuple[int, int]] = []
    result = evaluate(
        BrightBox(("box", "lamp")),
        bright,
        batch_size=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert result.to_dict()["AP"] == pytest.approx(1.0)
    assert result.images == 5
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_boxes_of_images_read_at_reduced_scale_come_back(bright: DetectionDataset) -> None:
    predictor = BrightBox(("box", "lamp"), preprocessing=Preprocessing(size_hw=(30, 40)))
    found = detect(predictor, bright, batch_size=2)
    assert predictor.widths == [80] * 5
    for record, detections in zip(bright.records, found, strict=True):
        np.testing.assert_allclose(detections.boxes_xyxy, record.boxes_xyxy, atol=4)


def test_classes_are_matched_by_name(bright: DetectionDataset) -> None:
    result = evaluate(BrightBox(("dog", "lamp", "box"), label=2), bright)
    assert result.to_dict()["AP"] == pytest.approx(1.0)
    wrong = evaluate(BrightBox(("dog", "lamp", "box"), label=1), bright)
    assert wrong.AP == 0.0


def test_a_class_that_the_data_lacks_is_left_out(bright: DetectionDataset) -> None:
    found = detect(BrightBox(("dog", "lamp", "box"), label=0), bright)
    assert [len(detections) for detections in found] == [0] * 5


def test_a_predictor_of_other_classes_is_refused(bright: DetectionDataset) -> None:
    with pytest.raises(InputError, match=r"checkpoint of other classes.*'lamp'.*'dog'"):
        evaluate(BrightBox(("dog", "box")), bright)


def test_an_unreadable_image_is_an_input_error_and_stops_the_readers(
    bright: DetectionDataset,
) -> None:
    path = bright.records[3].path
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"3\.jpg"):
        evaluate(BrightBox(("box", "lamp")), bright, batch_size=1)
    assert not [t for t in threading.enumerate() if t.name.startswith("read-images")]
