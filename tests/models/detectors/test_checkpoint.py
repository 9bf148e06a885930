"""Checkpoints: whatever is wrong with a file ends in one InputError, nothing is half written."""

from __future__ import annotations

import errno
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from flyweight.core.errors import InputError
from flyweight.models.detectors.checkpoint import load, load_manifest, save
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.zoo import build


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    return build("ssdlite320_mobilenet_v3_small", classes=("köpfe", "b"), size=64, width=0.25)


@pytest.fixture
def saved(detector: Detector, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save(detector, path)
    return path


def test_manifest_rides_in_the_header(saved: Path, detector: Detector) -> None:
    with safe_open(saved, framework="np") as file:
        header = json.loads(file.metadata()["flyweight"])
    assert header["model"]["name"] == "ssdlite320_mobilenet_v3_small"
    assert header["class_names"] == ["köpfe", "b"]
    assert load_manifest(saved) == detector.manifest()


def test_others_may_read_the_file(saved: Path) -> None:
    assert saved.stat().st_mode & 0o777 == 0o644


def test_a_loaded_detector_is_ready_to_predict(saved: Path) -> None:
    assert not load(saved).training


def test_truncated_anywhere(saved: Path) -> None:
    content = saved.read_bytes()
    for length in (0, 4, 100, len(content) // 2, len(content) - 1):
        saved.write_bytes(content[:length])
        with pytest.raises(InputError, match="truncated"):
            load(saved)
        with pytest.raises(InputError, match="truncated"):
            load_manifest(saved)


def test_foreign_files(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    with pytest.raises(InputError, match="not a Flyweight checkpoint"):
        load(other)
    other.write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(InputError, match="not a readable"):
        load(other)
    with pytest.raises(InputError, match="no such checkpoint"):
        load(tmp_path / "missing.safetensors")
    with pytest.raises(InputError, match="no such checkpoint"):
        load(tmp_path)


def test_weights_that_do_not_fit_the_config(saved: Path, detector: Detector) -> None:
    tensors = detector.state_dict()
    first = next(iter(tensors))
    header = {"flyweight": detector.manifest().to_json()}
    save_file({k: v for k, v in tensors.items() if k != first}, saved, metadata=header)
    with pytest.raises(InputError, match=r"do not fit.*stem"):
        load(saved)
    save_file(tensors | {first: torch.zeros(3)}, saved, metadata=header)
    with pytest.raises(InputError, match=r"do not fit.*stem"):
        load(saved)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("family", "later", "unknown detector family 'later'"),
        ("backbone", "resnet9000", "unknown backbone"),
        ("num_classes", 7, "2 class names for 7 classes"),
        ("default_boxes", [], "default boxes"),
        ("width", "wide", "config"),
    ],
)
def test_header_that_makes_no_detector(
    saved: Path, detector: Detector, field: str, value: object, message: str
) -> None:
    content = json.loads(detector.manifest().to_json())
    content["model"][field] = value
    save_file(detector.state_dict(), saved, metadata={"flyweight": json.dumps(content)})
    with pytest.raises(InputError, match=message):
        load(saved)


def test_a_failed_write_leaves_the_old_file(
    saved: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(InputError, match="disk is full"):
        save(detector, saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
