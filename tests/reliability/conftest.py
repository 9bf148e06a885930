"""Tiny data, two tiny checkpoints and an exported file, for commands that are killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flyweight.data.formats import save_dataset
from flyweight.data.records import DetectionDataset
from tests.cli.conftest import CLASSES, draw_record, train_arguments
from tests.reliability.killing import Nursery, open_nursery


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts and kills commands; torch is loaded once."""
    with open_nursery(tmp_path_factory.mktemp("nursery")) as opened:
        yield opened


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO folder: 8 images to train on, 6 to choose on, two classes."""
    pictures = tmp_path_factory.mktemp("pictures")
    splits = {}
    for split, numbers in (("train", range(8)), ("val", range(8, 14))):
        records = tuple(draw_record(pictures, number) for number in numbers)
        splits[split] = DetectionDataset(records, CLASSES, pictures, split, "coco")
    return save_dataset(splits, tmp_path_factory.mktemp("data") / "tiny", data_format="coco")


@pytest.fixture(scope="session")
def checkpoints(
    nursery: Nursery, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Of two trainings that differ."""
    folder = tmp_path_factory.mktemp("runs")
    for epochs in ("1", "2"):
        nursery.run([*train_arguments(data, folder / epochs), "--epochs", epochs])
    return folder / "1" / "last.safetensors", folder / "2" / "last.safetensors"


@pytest.fixture(scope="session")
def exported(
    nursery: Nursery, checkpoints: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The first of them as .onnx."""
    folder = tmp_path_factory.mktemp("exported")
    nursery.run(["export", str(checkpoints[0]), "--out", str(folder), "--name", "tiny"])
    return folder / "tiny.onnx"
