"""The Python side: the same functions as the command line, and nothing loaded before its time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import flyweight as fw
from flyweight.core.errors import InputError


def test_names() -> None:
    assert set(fw.__all__) <= set(dir(fw))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fw.nothing  # noqa: B018


def test_from_weights_to_detections(tmp_path: Path) -> None:
    """build, save, load, export and predict agree, torch or not."""
    from flyweight.models.detectors import checkpoint

    detector = fw.build("ssdlite320_mobilenet_v3_small", classes=["card"], size=64, width=0.25)
    detector.eval()
    checkpoint.save(detector, tmp_path / "a.safetensors")
    (exported,) = fw.export(fw.load(tmp_path / "a.safetensors"), ["onnx"], tmp_path)
    image = np.random.default_rng(0).integers(0, 255, (48, 80, 3), dtype=np.uint8)
    expected = detector.predict(image, score=0.02)
    found = fw.load(exported.path).predict(image, score=0.02)
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_loading_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        fw.load(tmp_path / "none.safetensors")
    with pytest.raises(InputError):
        fw.load(tmp_path / "none.onnx")
