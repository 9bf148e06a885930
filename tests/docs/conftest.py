"""The folder that the pages assume: data, pictures, checkpoints and exported files, all tiny."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cli.conftest import run_command

SIZE = 64


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; each block gets a copy of its own.

    - `my_data` and `cards` (COCO), `my_yolo_data`: drawn scenes; `pictures`, `photo.jpg`,
      `video.mp4`;
    - `runs/first`, `runs/second`, `runs/large`: `best.safetensors` of an untrained detector, and
      `original.safetensors`, `pruned.safetensors`;
    - `exported/best.onnx`, and as `exported/best-int8.onnx` the same;
    - `better.yaml`, `mine.yaml`, `design/1_ghostnet.yaml`: presets that slow commands write;
    - `device.json`, `board.json`: calibrations of a made-up machine.
    """
    folder = tmp_path_factory.mktemp("docs")
    _make_data(folder)
    _make_models(folder)
    _make_calibrations(folder)
    return folder


def _make_data(folder: Path) -> None:
    from flyweight.core.image import write_image
    from flyweight.data.formats import convert_dataset, save_dataset
    from flyweight.data.records import DetectionDataset, Record
    from flyweight.data.scenes import draw_scene

    drawn = folder / "drawn"
    drawn.mkdir()
    splits, number = {}, 0
    for split, count in (("train", 8), ("val", 10), ("test", 3)):
        records = []
        for _ in range(count):
            number += 1
            image, boxes = draw_scene((7, number), (96, 128))
            path = drawn / f"{number:03}.jpg"
            write_image(path, image)
            none = np.zeros(len(boxes), bool)
            records.append(
                Record(number, path, (96, 128), boxes, none.astype(np.int64), none, none)
            )
        splits[split] = DetectionDataset(tuple(records), ("card",), drawn, split, "coco")
    data = save_dataset(splits, folder / "my_data", data_format="coco")
    convert_dataset(data, folder / "my_yolo_data", data_format="yolo")
    shutil.copytree(data, folder / "cards")
    shutil.copytree(data / "images" / "test", folder / "pictures")
    first = sorted((folder / "pictures").iterdir())[0]
    for place in (folder / "photo.jpg", data / "photo.jpg"):
        shutil.copy(first, place)
    writer = cv2.VideoWriter(
        str(folder / "video.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5.0, (128, 96)
    )
    for path in sorted(drawn.iterdir())[:5]:
        frame = cv2.imread(str(path))
        assert frame is not None
        writer.write(frame)
    writer.release()
    shutil.rmtree(drawn)


def _make_models(folder: Path) -> None:
    import torch

    from flyweight.models.detectors import build, save

    torch.manual_seed(0)
    detector = build("ssdlite320_mobilenet_v2", classes=["card"], size=SIZE, width=0.25)
    best = folder / "runs" / "first" / "best.safetensors"
    best.parent.mkdir(parents=True)
    save(detector, best)
    copies = (
        "runs/second/best",
        "runs/large/best",
        "runs/cards/best",
        "best",
        "original",
        "pruned",
    )
    for name in copies:
        copy = folder / f"{name}.safetensors"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(best, copy)
    exported = folder / "exported"
    written = run_command("export", best, "--to", "onnx", "--out", exported, "--json")
    assert written.code == 0, written.err
    for copy in (exported / "best-int8.onnx", folder / "best.onnx"):
        shutil.copy(exported / "best.onnx", copy)
    (folder / "design").mkdir()
    for name in ("better", "mine", "design/1_ghostnet"):
        (folder / f"{name}.yaml").write_text("model: ssdlite\nbackbone: mobilenet_v3_small\n")


def _make_calibrations(folder: Path) -> None:
    from flyweight.profiling.device_model import DeviceModel, MeasuredProbe
    from flyweight.profiling.probes import draft, grid

    # 50 GFLOP/s, 10 GB/s
    measured = []
    for probe in grid():
        cost = draft(probe)
        work = sum(each.macs / 25e6 + each.access_bytes / 10e6 for each in cost.operations)
        measured.append(MeasuredProbe(probe, 0.05 + work))
    model = DeviceModel("onnxruntime", 2, {"processor": "a made-up one"}, tuple(measured))
    for name in ("device.json", "board.json"):
        model.save(folder / name)


@pytest.fixture
def place(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, which is also the current one."""
    folder = tmp_path / "place"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    return folder
