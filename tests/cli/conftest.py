"""A tiny data set, a tiny checkpoint and its exported file, made once for all tests here."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyweight.cli.main import main
from flyweight.core.image import write_image
from flyweight.data.formats import save_dataset
from flyweight.data.records import DetectionDataset, Record

CLASSES = ("disc", "block")
SIZE_HW = (80, 96)


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    def assert_refused(self, *parts: str) -> None:
        """Exit code 2, nothing on stdout, one line on stderr that names every part."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert self.out == ""
        lines = [line for line in self.err.splitlines() if not line.startswith("note:")]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        for part in parts:
            assert part in lines[0]


def run_command(*arguments: str | Path) -> Outcome:
    """Run `flyweight ARGUMENTS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main([str(argument) for argument in arguments])
    code = ended.value.code
    return Outcome(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny networks on a machine that others use, too: more threads only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def flyweight() -> Callable[..., Outcome]:
    """The command line as a function."""
    return run_command


def draw_record(folder: Path, number: int) -> Record:
    """One bright object of each class on a dark ground, saved as JPEG."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 60, (*SIZE_HW, 3)).astype(np.uint8)
    boxes = []
    for label, left in enumerate((2, 50)):
        x, y = left + int(rng.integers(0, 12)), int(rng.integers(4, 40))
        image[y : y + 32, x : x + 32, label] = 250
        boxes.append((x, y, x + 32, y + 32))
    path = folder / f"picture-{number}.jpg"
    write_image(path, image)
    return Record(
        image_id=number,
        path=path,
        size_hw=SIZE_HW,
        boxes_xyxy=np.array(boxes, np.float32),
        labels=np.arange(2, dtype=np.int64),
        crowd=np.zeros(2, bool),
        difficult=np.zeros(2, bool),
    )


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO folder: 8 images to train on, 3 to choose on, 3 to report on, two classes."""
    pictures = tmp_path_factory.mktemp("pictures")
    splits, first = {}, 0
    for split, count in (("train", 8), ("val", 3), ("test", 3)):
        records = tuple(draw_record(pictures, first + number) for number in range(count))
        splits[split] = DetectionDataset(records, CLASSES, pictures, split, "coco")
        first += count
    return save_dataset(splits, tmp_path_factory.mktemp("data") / "tiny", data_format="coco")


@pytest.fixture
def own_data(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data that a test may spoil."""
    return Path(shutil.copytree(tiny_data, tmp_path / "own"))


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> tuple[Path, Any]:
    """A run folder after two epochs, and what `train --json` said of it."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    outcome = run_command(*train_arguments(tiny_data, out), "--epochs", "2", "--json")
    return out, outcome.json


@pytest.fixture(scope="session")
def training() -> Callable[[Path, Path], list[str]]:
    """The words of the smallest training there is: `training(data, out)`."""
    return train_arguments


def train_arguments(data: Path, out: Path) -> list[str]:
    """`train`, at the smallest size, in this process alone."""
    model = "ssdlite320_mobilenet_v3_small"
    return [
        "train", model, "--data", str(data), "--out", str(out), "--size", "64", "--width", "0.35",
        "--batch", "4", "--workers", "0", "--device", "cpu",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_run: tuple[Path, Any]) -> Path:
    """The best checkpoint of the tiny run."""
    return tiny_run[0] / "best.safetensors"


@pytest.fixture(scope="session")
def tiny_export(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Any:
    """What `export --json` said of the tiny checkpoint as ONNX."""
    out = tmp_path_factory.mktemp("exported")
    return run_command("export", tiny_checkpoint, "--to", "onnx", "--out", out, "--json").json


@pytest.fixture(scope="session")
def tiny_onnx(tiny_export: Any) -> Path:
    """The tiny checkpoint as an ONNX file."""
    return Path(tiny_export["files"][0]["path"])


@pytest.fixture(scope="session")
def picture(tiny_data: Path) -> Path:
    """One image file."""
    return sorted((tiny_data / "images" / "test").iterdir())[0]
