"""Which images a run takes, what goes on when it is resumed, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flyweight.api as fw
from flyweight.core.errors import InputError
from flyweight.core.image import write_image
from flyweight.data.formats import open_dataset, open_splits, save_dataset
from flyweight.data.records import DetectionDataset, Record
from flyweight.training.classification.labelled_images import open_labelled_images
from flyweight.training.classification.network import load_classifier
from flyweight.training.model_choice import ModelChoice, make_detector
from tests.training.classification.conftest import SHAPES, draw_shape

QUICK: dict[str, Any] = {
    "width": 0.25, "size": 32, "epochs": 1, "batch_size": 8, "workers": 0, "device": "cpu",
    "progress": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def shapes_record(folder: Path, number: int) -> Record:
    """Two shapes side by side, and as much room without any below them."""
    rng = np.random.default_rng(number)
    labels = rng.integers(0, 3, 2)
    image = rng.integers(40, 100, (120, 112, 3)).astype(np.uint8)
    for place, label in enumerate(labels):
        image[:48, 56 * place : 56 * (place + 1)] = draw_shape(label, rng)
    path = folder / f"{number}.png"
    write_image(path, image)
    boxes = np.array([[8, 4, 48, 44], [64, 4, 104, 44]], np.float32)
    none = np.zeros(2, bool)
    return Record(number, path, (120, 112), boxes, labels, none, none)


@pytest.fixture(scope="module")
def detection_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO: 10 pictures to train on and 4 to choose on, two objects each."""
    pictures, splits, first = tmp_path_factory.mktemp("pictures"), {}, 0
    for split, count in (("train", 10), ("val", 4)):
        records = tuple(shapes_record(pictures, first + number) for number in range(count))
        splits[split] = DetectionDataset(records, SHAPES, pictures, split, "coco")
        first += count
    return save_dataset(splits, tmp_path_factory.mktemp("data") / "pairs", data_format="coco")


def test_objects_are_the_images_and_a_detector_starts_from_them(
    detection_dir: Path, tmp_path: Path
) -> None:
    run = fw.pretrain("mobilenet_v1", detection_dir, tmp_path / "run", **QUICK)
    assert run.classes == (*SHAPES, "background")
    train_set, val_set = open_labelled_images(detection_dir)
    assert run.images == {"train": len(train_set), "val": len(val_set)}
    assert len(train_set) > 20  # two objects of each of ten pictures, and background
    assert len(open_labelled_images(detection_dir, background=False)[0]) == 20

    choice = ModelChoice("ssdlite320_mobilenet_v1", size=64, width=0.25, pretrained=run.checkpoint)
    detector: Any = make_detector(choice, open_dataset(detection_dir, "train"))
    theirs = load_classifier(run.checkpoint).classifier.backbone.state_dict()
    for name, tensor in detector.model.backbone.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    assert detector.lineage["pretrained"]["parent"]["data"]["name"] == "pairs"


def test_one_class_of_objects_needs_background(detection_dir: Path, tmp_path: Path) -> None:
    splits = open_splits(detection_dir)
    single = {
        name: DetectionDataset(
            tuple(_all_of_one_class(record) for record in split.records),
            ("shape",), split.root, name, "coco",
        )
        for name, split in splits.items()
    }  # fmt: skip
    root = save_dataset(single, tmp_path / "single", data_format="coco")
    assert open_labelled_images(root)[0].class_names == ("shape", "background")
    with pytest.raises(InputError, match="only one class, shape"):
        open_labelled_images(root, background=False)


def _all_of_one_class(record: Record) -> Record:
    return replace(record, labels=np.zeros_like(record.labels))


def test_objects_of_a_class_that_only_val_has_are_left_out(
    detection_dir: Path, tmp_path: Path
) -> None:
    splits = open_splits(detection_dir)
    kept = [r for r in splits["train"].records if 1 not in r.labels]
    splits["train"] = replace(splits["train"], records=tuple(kept))
    root = save_dataset(splits, tmp_path / "data", data_format="coco")
    notes: list[str] = []
    train_set, val_set = open_labelled_images(root, background=False, note=notes.append)
    assert train_set.class_names == val_set.class_names == ("block", "disc")
    assert notes == ["no training image shows cross: left out"]


def test_what_cannot_be_trained_on_is_refused(shapes_dir: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="neither folders of classes nor"):
        open_labelled_images(empty)
    with pytest.raises(InputError, match="no such folder"):
        open_labelled_images(tmp_path / "nowhere")
    shutil.copytree(shapes_dir / "disc", tmp_path / "one" / "disc")
    with pytest.raises(InputError, match="only one class, disc"):
        open_labelled_images(tmp_path / "one")
    shutil.copytree(shapes_dir, tmp_path / "pairs" / "train")
    (tmp_path / "pairs" / "train" / "disc" / "0.png").write_text("no picture")
    with pytest.raises(InputError, match=r"0\.png"):
        open_labelled_images(tmp_path / "pairs")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label_smoothing": 0.3}, r"started with label_smoothing 0\.1, not 0\.3"),
        ({"balanced": True}, "started with balanced False, not True"),
        ({"width": 0.5}, r"started with width 0\.25, not 0\.5"),
        ({"size": 64}, r"started with size \(32, 32\), not \(64, 64\)"),
        ({"norm": "group"}, "started with backbone_norm batch, not group"),
        ({"lr": 0.5}, r"started with lr 0\.001, not 0\.5"),
        ({"backbone": "mobilenet_v2"}, "started with backbone mobilenet_v1, not mobilenet_v2"),
        ({"data": "fewer"}, r"training data has changed since the run was started \(images\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_run_is_not_resumed_as_another(
    change: dict[str, Any], words: str, finished: Path, shapes_dir: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"backbone": "mobilenet_v1", "data": shapes_dir} | QUICK | change
    if change.get("data"):
        given["data"] = shutil.copytree(shapes_dir, tmp_path / "shapes")
        (tmp_path / "shapes" / "disc" / "3.png").unlink()
    with pytest.raises(InputError, match=words):
        fw.pretrain(given.pop("backbone"), given.pop("data"), finished, resume=True, **given)


@pytest.fixture(scope="module")
def finished(shapes_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "finished"
    return fw.pretrain("mobilenet_v1", shapes_dir, out, **QUICK).run


def test_a_finished_run_is_resumed_without_a_step(finished: Path, shapes_dir: Path) -> None:
    before = (finished / "best.safetensors").read_bytes()
    again = fw.pretrain("mobilenet_v1", shapes_dir, finished, resume=True, progress=False)
    assert (again.epochs, again.best_epoch, again.images_per_second) == (1, 1, 0)
    assert (finished / "best.safetensors").read_bytes() == before


def test_only_a_pretraining_run_is_resumed(
    shapes_dir: Path, finished: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no run to resume"):
        fw.pretrain("mobilenet_v1", shapes_dir, tmp_path, resume=True)
    other = Path(shutil.copytree(finished, tmp_path / "other"))
    (other / "config.yaml").write_text("recipe: {}\nmodel: {family: ssd}\n")
    with pytest.raises(InputError, match="not the config of a pretraining run"):
        fw.pretrain("mobilenet_v1", shapes_dir, other, resume=True)
