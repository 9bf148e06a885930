"""From a name and a folder to a run: which detector is built, and which settings hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flyweight.core.errors import InputError
from flyweight.core.image import read_image
from flyweight.data.anchor_recall import anchor_recall
from flyweight.data.default_boxes import relative_boxes
from flyweight.data.formats import save_dataset
from flyweight.data.records import DetectionDataset, Record
from flyweight.models.detectors import checkpoint, zoo
from flyweight.training.model_choice import (
    ModelChoice,
    anchors_of,
    make_detector,
    relative_anchors,
)
from flyweight.training.run import train_on_folder, training_splits

NAME = "ssdlite320_mobilenet_v3_small"
SHAPE: dict[str, Any] = {"size": 64, "width": 0.35}
QUICK: dict[str, Any] = {"batch_size": 2, "workers": 0, "device": "cpu", "progress": False}


def records(folder: Path, count: int, *, side: float = 24) -> tuple[Record, ...]:
    """Images of 64 x 64 pixels with two objects of `side` pixels each; their files are written."""
    from flyweight.core.image import write_image

    made = []
    for number in range(count):
        rng = np.random.default_rng(number)
        path = folder / f"{side:g}-{number}.jpg"
        write_image(path, rng.integers(0, 255, (64, 64, 3)).astype(np.uint8))
        low = rng.uniform(0, 64 - side, (2, 2))
        made.append(
            Record(
                image_id=number,
                path=path,
                size_hw=(64, 64),
                boxes_xyxy=np.concatenate([low, low + side], axis=1).astype(np.float32),
                labels=np.arange(2, dtype=np.int64),
                crowd=np.zeros(2, bool),
                difficult=np.zeros(2, bool),
            )
        )
    return tuple(made)


@pytest.fixture
def tiny_set(tmp_path: Path) -> DetectionDataset:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    return DetectionDataset(records(pictures, 4), ("cup", "pen"), pictures, "train", "coco")


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    checkpoint.save(zoo.build(NAME, classes=["pen", "key"], **SHAPE), path)
    return path


def test_a_name_gives_a_new_detector_for_the_classes_of_the_data(
    tiny_set: DetectionDataset,
) -> None:
    notes: list[str] = []
    detector = make_detector(ModelChoice(NAME, **SHAPE), tiny_set, note=notes.append)
    assert detector.class_names == ("cup", "pen")
    assert detector.preprocessing.size_hw == (64, 64)
    assert any("random weights" in text for text in notes)
    asked_for: list[str] = []
    choice = ModelChoice(NAME, **SHAPE, pretrained="none")
    make_detector(choice, tiny_set, note=asked_for.append)
    assert not any("random weights" in text for text in asked_for)


def test_channels_can_be_scaled_as_the_data_wants_it(tiny_set: DetectionDataset) -> None:
    pixels = np.concatenate([read_image(each.path).reshape(-1, 3) for each in tiny_set.records])
    notes: list[str] = []
    choice = ModelChoice(NAME, **SHAPE, normalise="data")
    preprocessing = make_detector(choice, tiny_set, note=notes.append).preprocessing
    np.testing.assert_allclose(preprocessing.mean, pixels.mean(0) / 255, rtol=1e-6)
    np.testing.assert_allclose(preprocessing.std, pixels.std(0) / 255, rtol=1e-6)
    assert any("normalised by the data" in text for text in notes)
    with pytest.raises(InputError, match="pretrained weights want"):
        ModelChoice(NAME, **SHAPE, normalise="data", pretrained="imagenet")


def test_objects_that_no_box_reaches_are_told(tmp_path: Path) -> None:
    small = DetectionDataset(
        records(tmp_path, 6, side=4), ("cup", "pen"), tmp_path, "train", "coco"
    )
    notes: list[str] = []
    make_detector(ModelChoice(NAME, **SHAPE), small, note=notes.append)
    (told,) = (text for text in notes if "default box" in text)
    assert "100% of the objects" in told
    assert "100% of cup" in told
    assert "--anchors fit" in told
    large = DetectionDataset(
        records(tmp_path, 6, side=44), ("cup", "pen"), tmp_path, "train", "coco"
    )
    notes.clear()
    make_detector(ModelChoice(NAME, size=320, width=0.35), large, note=notes.append)
    assert not any("default box" in text for text in notes)


def test_fitted_boxes_reach_more_of_the_data(tmp_path: Path) -> None:
    small = DetectionDataset(
        records(tmp_path, 30, side=8), ("cup", "pen"), tmp_path, "train", "coco"
    )
    objects, _ = relative_boxes(small)
    recall = {}
    for anchors in ("published", "fit"):
        choice = ModelChoice(NAME, size=160, width=0.35, anchors=anchors)
        detector = make_detector(choice, small)
        recall[anchors] = anchor_recall(objects, relative_anchors(detector)).total.recall
    assert recall["fit"] > recall["published"] + 0.1


def test_a_checkpoint_of_the_same_classes_keeps_all_its_weights(
    tiny_set: DetectionDataset, tiny_file: Path
) -> None:
    notes: list[str] = []
    same = replace(tiny_set, class_names=("key", "pen"))
    detector = make_detector(ModelChoice(tiny_file), same, note=notes.append)
    assert detector.class_names == ("pen", "key")
    assert not any("replaced" in text for text in notes)
    for name, tensor in checkpoint.load(tiny_file).state_dict().items():
        assert torch.equal(detector.state_dict()[name], tensor)


def test_a_checkpoint_of_other_classes_gets_a_new_class_head(
    tiny_set: DetectionDataset, tiny_file: Path
) -> None:
    notes: list[str] = []
    detector = make_detector(ModelChoice(tiny_file), tiny_set, note=notes.append)
    assert detector.class_names == ("cup", "pen")
    assert any("replaced" in text and "except for pen" in text for text in notes)
    before = checkpoint.load(tiny_file).model.get_submodule("backbone").state_dict()
    for name, tensor in detector.model.get_submodule("backbone").state_dict().items():
        assert torch.equal(before[name], tensor)


def test_a_checkpoint_under_another_size_and_other_boxes(tmp_path: Path, tiny_file: Path) -> None:
    more = DetectionDataset(records(tmp_path, 12), ("pen", "key"), tmp_path, "train", "coco")
    detector = make_detector(ModelChoice(tiny_file, size=96, anchors="fit"), more)
    assert detector.preprocessing.size_hw == (96, 96)
    boxes, before = anchors_of(detector), anchors_of(ModelChoice(tiny_file))
    assert boxes.size_hw == (96, 96)
    assert boxes.grids[0] == (6, 6)
    assert boxes.sizes_wh != before.sizes_wh
    image = np.zeros((80, 70, 3), np.uint8)
    assert len(detector.predict_batch([image])) == 1


@pytest.mark.parametrize("option", [{"width": 0.5}, {"pretrained": "imagenet"}])
def test_a_checkpoint_has_its_own_weights(
    tiny_set: DetectionDataset, tiny_file: Path, option: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=f"{next(iter(option))} cannot be chosen"):
        make_detector(ModelChoice(tiny_file, **option), tiny_set)


def test_splits(tiny_set: DetectionDataset, tmp_path: Path) -> None:
    notes: list[str] = []
    root = save_dataset({"train": tiny_set}, tmp_path / "data", data_format="coco")
    train_set, val_set, test_set = training_splits(root, note=notes.append)
    assert (len(train_set), len(val_set), test_set) == (3, 1, None)
    assert len(notes) == 1
    root = save_dataset(
        {"train": tiny_set, "val": tiny_set.subset([0])}, tmp_path / "more", data_format="coco"
    )
    train_set, val_set, _ = training_splits(root, note=notes.append)
    assert (len(train_set), len(val_set)) == (4, 1)
    assert len(notes) == 1


def test_resuming_takes_model_and_settings_from_the_run(
    tiny_set: DetectionDataset, tmp_path: Path
) -> None:
    splits = {"train": tiny_set, "val": tiny_set.subset([0, 1])}
    root = save_dataset(splits, tmp_path / "data", data_format="coco")
    out = tmp_path / "run"
    first = train_on_folder(NAME, root, out, **SHAPE, epochs=1, lr=2e-3, **QUICK)
    assert first.recipe["lr"] == 2e-3
    assert first.test_metrics is None
    again = train_on_folder(NAME, root, out, resume=True, progress=False)
    assert again.metrics == first.metrics
    assert again.recipe == first.recipe
    assert checkpoint.load(again.checkpoint).preprocessing.size_hw == (64, 64)
    other = "ssdlite320_mobilenet_v2"
    with pytest.raises(InputError, match=f"trains {NAME}, not {other}"):
        train_on_folder(other, root, out, resume=True, progress=False)
    with pytest.raises(InputError, match="size"):
        train_on_folder(NAME, root, out, resume=True, size=96, progress=False)
    with pytest.raises(InputError, match="lr"):
        train_on_folder(NAME, root, out, resume=True, lr=1e-4, progress=False)
    renamed = replace(tiny_set, class_names=("cup", "key"))
    others = save_dataset(
        {"train": renamed, "val": renamed.subset([0])}, tmp_path / "others", data_format="coco"
    )
    with pytest.raises(InputError, match="learns cup, pen, the data has cup, key"):
        train_on_folder(NAME, others, out, resume=True, progress=False)


def test_unknown_settings_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="epoch_count"):
        train_on_folder(NAME, tmp_path, tmp_path / "run", epoch_count=3)
    with pytest.raises(InputError, match="anchors"):
        train_on_folder(NAME, tmp_path, tmp_path / "run", anchors="guess")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("pretrained", "given", "expected"),
    [("none", {}, 0), ("file", {}, 2), ("file", {"freeze_backbone_stages": 0}, 0)],
)
def test_pretrained_weights_stay_in_the_first_stages(
    tiny_set: DetectionDataset,
    tiny_file: Path,
    tmp_path: Path,
    pretrained: str,
    given: dict[str, int],
    expected: int,
) -> None:
    data = tmp_path / "data"
    save_dataset({"train": tiny_set, "val": tiny_set}, data, data_format="coco")
    source = tiny_file if pretrained == "file" else "none"
    options = {**SHAPE, **QUICK, **given, "epochs": 1, "augmentation": "none"}
    run = train_on_folder(NAME, data, tmp_path / "run", pretrained=source, **options)
    assert run.recipe["freeze_backbone_stages"] == expected
    before = checkpoint.load(tiny_file).state_dict()
    after = checkpoint.load(run.checkpoint).state_dict()
    stem = next(name for name in after if "backbone" in name and name.endswith("conv.weight"))
    assert torch.equal(before[stem], after[stem]) == (expected > 0)


def test_the_seed_is_the_start_of_the_weights_too(
    tiny_set: DetectionDataset, tmp_path: Path
) -> None:
    data = save_dataset({"train": tiny_set, "val": tiny_set}, tmp_path / "set", data_format="coco")
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = train_on_folder(NAME, data, tmp_path / name, epochs=1, seed=seed, **SHAPE, **QUICK)
        found = checkpoint.load(run.checkpoint).parameters()
        weights.append(torch.cat([each.detach().flatten() for each in found]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_named_recipe_holds_where_nothing_else_is_said(
    tiny_set: DetectionDataset, tmp_path: Path
) -> None:
    save_dataset({"train": tiny_set, "val": tiny_set}, tmp_path / "data", data_format="coco")
    run = train_on_folder(
        NAME,
        tmp_path / "data",
        tmp_path / "run",
        recipe="yolov4",
        options={"label_smoothing": 0.2},
        adversarial=0.5,
        epochs=1,
        **SHAPE,
        **(QUICK | {"batch_size": 4}),
    )
    assert run.recipe["augmentation"] == "yolov4"
    assert run.recipe["drop_block"] == 0.1
    assert run.recipe["adversarial"] == 0.5
    config: Any = checkpoint.load(run.checkpoint).config
    assert (config.box_loss, config.label_smoothing) == ("ciou", 0.2)


def test_norms_are_frozen_for_pretrained_weights_only(
    tiny_set: DetectionDataset, tmp_path: Path
) -> None:
    save_dataset({"train": tiny_set, "val": tiny_set}, tmp_path / "data", data_format="coco")
    run = train_on_folder(
        NAME, tmp_path / "data", tmp_path / "run", recipe="retinanet", epochs=1, **SHAPE, **QUICK
    )
    assert run.recipe["freeze_norms"] is False
    assert run.recipe["optimizer"] == "sgd"


def test_the_largest_batch_is_asked_for(tiny_set: DetectionDataset, tmp_path: Path) -> None:
    save_dataset({"train": tiny_set, "val": tiny_set}, tmp_path / "data", data_format="coco")
    settings = {**QUICK, "batch_size": "auto"}
    run = train_on_folder(NAME, tmp_path / "data", tmp_path / "run", epochs=1, **SHAPE, **settings)
    assert run.recipe["batch_size"] == 2  # four images give few steps as it is
    assert any("batches of 2 images" in text for text in run.notes)
