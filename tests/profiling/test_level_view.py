"""What each level is: against the anchors that the detector itself makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flyweight.core.preprocessing import Preprocessing
from flyweight.data.records import DetectionDataset, Record
from flyweight.models.detectors.zoo import build
from flyweight.profiling.level_view import level_views, object_sizes
from flyweight.profiling.trace import trace_detector


@pytest.mark.parametrize(
    "name", ["ssdlite320_mobilenet_v2", "retinanet_snet", "yolov4", "faster_rcnn"]
)
def test_levels_have_the_detectors_anchors(name: str) -> None:
    detector = build(name, classes=["card"], size=128, width=0.25)
    levels = level_views(detector, trace_detector(detector))
    anchors = detector.objective.anchors  # type: ignore[attr-defined]
    assert [level.grid for level in levels] == list(anchors.grids)
    sizes = (anchors.boxes_xyxy[:, 2:] - anchors.boxes_xyxy[:, :2]).numpy()
    first = 0
    for level in levels:
        count = len(level.anchors_wh)
        assert np.asarray(level.anchors_wh) == pytest.approx(sizes[first : first + count], rel=1e-4)
        first += level.grid[0] * level.grid[1] * count
        # As many cells as the map that predicts has.
        assert level.stride is not None
        assert -(-128 // level.stride) == pytest.approx(level.grid[0], abs=1)
        assert level.effective_field is None
    assert first == len(anchors)


def test_levels_at_another_size() -> None:
    with torch.device("meta"):
        detector = build("retinanet_snet", classes=["card"])
    levels = level_views(detector, trace_detector(detector, size_hw=(448, 448)))
    assert [level.grid for level in levels] == [(28, 28), (14, 14), (7, 7), (4, 4)]


def test_objects_are_measured_as_the_network_gets_them() -> None:
    boxes = np.array([[0, 0, 40, 20], [10, 10, 30, 90], [5, 5, 5, 9]], np.float32)
    record = Record(
        0, Path("x.jpg"), (100, 200), boxes, np.zeros(3, np.int64), np.zeros(3, bool),
        np.zeros(3, bool),
    )  # fmt: skip
    crowd = Record(
        1, Path("y.jpg"), (100, 200), boxes[:1], np.zeros(1, np.int64), np.ones(1, bool),
        np.zeros(1, bool),
    )  # fmt: skip
    dataset = DetectionDataset((record, crowd), ("thing",), Path(), "train", "coco")
    stretched = object_sizes(dataset, Preprocessing(size_hw=(50, 50)))
    assert stretched.tolist() == [[10, 10], [5, 40]]  # without area and crowds do not count
    boxed = object_sizes(dataset, Preprocessing(size_hw=(100, 100), resize="letterbox"))
    assert boxed.tolist() == [[20, 10], [10, 40]]
