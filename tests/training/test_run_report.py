from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from flyweight.core.detections import Detections
from flyweight.data.records import DetectionDataset
from flyweight.models.detectors.detector import Detector
from flyweight.training import loop
from flyweight.training.loop import train
from flyweight.training.recipe import Recipe
from flyweight.training.run_report import report_run, write_run_report
from tests.html_page import Page, refers_outside


class Oracle:
    """Finds exactly what is labelled, red with a score of 0.9, green with 0.2."""

    def __init__(self, dataset: DetectionDataset) -> None:
        self.class_names = dataset.class_names
        self.records = iter(dataset.records)

    def predict_batch(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        found = []
        for _ in images:
            record = next(self.records)
            scores = np.where(record.labels == 0, 0.9, 0.2).astype(np.float32)
            found.append(Detections(record.boxes_xyxy, scores, record.labels))
        return found


def rows(epochs: int) -> list[dict[str, Any]]:
    return [
        {"epoch": e, "loss": 3.0 / e, "loss_box": 1.0 / e, "loss_class": 2.0 / e, "lr": 1e-3}
        | ({"AP": 0.1 * e, "AP50": 0.2 * e, "AP75": 0.05 * e} if e % 2 == 0 else {})
        for e in range(1, epochs + 1)
    ]


def test_page_of_a_run(val_set: DetectionDataset, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_run_report(
        path,
        title="a <b> & c",
        rows=rows(4),
        recipe=Recipe().to_dict(),
        best_epoch=4,
        predictor=Oracle(val_set),
        val_set=val_set,
        images_per_second=12.5,
        ledger=[{"stage": "ONNX int8", "AP": 0.5, "AP50": 0.8, "ms": 7.25, "mb": 4.4}],
    )
    text = path.read_text(encoding="utf-8")
    assert refers_outside(text) == []
    page = Page(text)
    words = " ".join(page.text)
    assert "a <b> & c" in words
    assert "ONNX int8" in words
    # an oracle is perfect
    assert words.count("1.000") >= 3
    # losses, AP, learning rate, precision over recall
    assert len(page.all("svg")) == 4
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    # green ones have scores below 0.3: the worst images are those where some are not found
    worst = sum(bool((record.labels == 1).any()) for record in val_set.records)
    pictures = page.all("img")
    assert worst > 0
    assert len(pictures) == 2 * (len(val_set) + worst)
    for picture in pictures:
        source = picture["src"]
        assert source is not None
        data = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None
    red = sum(int((record.labels == 0).sum()) for record in val_set.records)
    counts = [int(number) for number in re.findall(r"<span>(\d+) found</span>", text)]
    assert sum(counts) == red


def test_page_without_validation(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_run_report(
        path, title="t", rows=rows(1), recipe={}, best_epoch=1, predictor=None, val_set=None,
        images_per_second=1.0,
    )  # fmt: skip
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.all("svg")) == 2
    assert page.all("img") == []


def test_a_run_writes_its_report(
    monkeypatch: pytest.MonkeyPatch,
    new_detector: Callable[..., Detector],
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(loop, "report_run", report_run)
    train(new_detector(), train_set, val_set, quick, tmp_path, progress=False)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert refers_outside(text) == []
    assert "ssdlite320_mobilenet_v1" in "".join(Page(text).text)
