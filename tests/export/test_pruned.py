"""A pruned detector of every family is exported and quantised like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from torch import nn

import flyweight.export.export as export_module
from flyweight.compression.prune import prune
from flyweight.compression.prune_target import Target
from flyweight.core.image import write_image
from flyweight.data.records import DetectionDataset, Record
from flyweight.export.export import export
from flyweight.models.detectors import Detector

FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("ssdlite", {"backbone": "ghostnet"}),
    ("retinanet_snet", {}),
    ("faster_rcnn", {}),
    ("yolov3", {}),
    ("yolov4", {"backbone": "cspdarknet53", "width": 0.125}),
]


@pytest.fixture
def noise(tmp_path: Path) -> DetectionDataset:
    """Four pictures to calibrate on."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(4):
        path = tmp_path / "data" / f"{number}.png"
        write_image(path, rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        box, label = np.array([[8, 8, 40, 40]], np.float32), np.zeros(1, np.int64)
        no = np.zeros(1, bool)
        records.append(Record(number, path, (64, 64), box, label, no, no))
    return DetectionDataset(tuple(records), ("a", "b", "c"), tmp_path, "train", "coco")


@pytest.mark.slow  # export is 2 s a family
@pytest.mark.parametrize(("name", "options"), FAMILIES)
def test_pruned_families_are_exported_and_quantised(
    small_detector: Callable[..., Detector],
    make_lively: Callable[[nn.Module], nn.Module],
    settle_norms: Callable[[Detector], None],
    noise: DetectionDataset,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: dict[str, Any],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(export_module, "SPEED_ROUNDS", 1)
    whole = small_detector(name, **options)
    make_lively(whole)
    detector = prune(whole, Target(share=0.6), multiple=2).detector.eval()
    settle_norms(detector)
    # Each file is run and compared with the detector, or refused.
    (plain,) = export(detector, ["onnx"], tmp_path)
    (int8,) = export(detector, ["onnx"], tmp_path, precision="int8", calibration=noise)
    weights = sum(parameter.numel() for parameter in detector.parameters())
    assert weights < 0.8 * sum(parameter.numel() for parameter in whole.parameters())
    assert stored(plain.path, onnx.TensorProto.FLOAT) == pytest.approx(weights, rel=0.2)
    assert stored(int8.path, onnx.TensorProto.INT8) > 0.8 * weights


def stored(path: Path, kind: int) -> int:
    """How many numbers of a kind a graph holds."""
    tensors = onnx.load(path).graph.initializer
    return sum(int(np.prod(each.dims)) for each in tensors if each.data_type == kind)
