"""Folders of classes as torchvision reads them, and shares of every class set aside."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.datasets import ImageFolder

from flyweight.core.errors import InputError
from flyweight.training.classification.image_folder import (
    open_image_folder,
    read_class_folders,
    region_labels,
    split_by_class,
)
from tests.training.classification.conftest import region_set


def test_images_and_labels_are_those_of_torchvision(shapes_dir: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(shapes_dir, tmp_path / "own"))
    (root / "disc" / "deeper").mkdir()
    (root / "disc" / "0.png").rename(root / "disc" / "deeper" / "0.png")
    (root / "disc" / "notes.txt").write_text("no image")
    theirs = ImageFolder(str(root))
    ours = read_class_folders(root, "train")
    assert list(ours.class_names) == theirs.classes
    found = [(str(record.path), int(record.labels[0])) for record in ours.records]
    assert found == theirs.samples
    for record in ours.records:
        assert record.size_hw == (48, 56)
        assert record.boxes_xyxy.tolist() == [[0, 0, 56, 48]]


def test_folders_that_are_hidden_or_empty_are_no_classes(shapes_dir: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(shapes_dir, tmp_path / "own"))
    (root / "empty").mkdir()
    shutil.copytree(root / "disc", root / ".cache")
    assert read_class_folders(root, "train").class_names == ("block", "cross", "disc")


@pytest.mark.parametrize("word", ["val", "valid"])
def test_folders_of_splits_are_kept_apart(shapes_dir: Path, tmp_path: Path, word: str) -> None:
    shutil.copytree(shapes_dir, tmp_path / "train")
    shutil.copytree(shapes_dir / "disc", tmp_path / word / "disc")
    notes: list[str] = []
    train_set, val_set = open_image_folder(tmp_path, note=notes.append)
    assert (len(train_set), len(val_set)) == (60, 20)
    # the labels are those of training, although val shows one class only
    assert set(region_labels(val_set.records).tolist()) == {2}
    assert not notes
    shutil.copytree(shapes_dir / "disc", tmp_path / word / "ring")
    with pytest.raises(InputError, match=r"not known here: ring .*block, cross, disc"):
        open_image_folder(tmp_path)


def test_a_class_may_be_called_train(shapes_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes_dir / "disc", tmp_path / "train")
    shutil.copytree(shapes_dir / "block", tmp_path / "tram")
    train_set, _ = open_image_folder(tmp_path)
    assert train_set.class_names == ("train", "tram")


def test_without_val_a_share_of_every_class_is_set_aside(shapes_dir: Path) -> None:
    notes: list[str] = []
    train_set, val_set = open_image_folder(shapes_dir, note=notes.append)
    assert np.bincount(region_labels(val_set.records)).tolist() == [3, 3, 3]
    assert np.bincount(region_labels(train_set.records)).tolist() == [17, 17, 17]
    assert "9 of its images" in notes[0]
    again = open_image_folder(shapes_dir)[1]
    assert [record.path for record in again.records] == [record.path for record in val_set.records]
    other = open_image_folder(shapes_dir, seed=1)[1]
    assert [record.path for record in other.records] != [record.path for record in val_set.records]


@settings(max_examples=50)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    fraction=st.floats(0.05, 0.5),
    seed=st.integers(0, 5),
)
def test_a_split_is_a_partition_with_each_class_in_proportion(
    labels: list[int], fraction: float, seed: int
) -> None:
    whole = region_set(labels, ("a", "b", "c", "d"))
    train_set, val_set = split_by_class(whole, fraction, seed=seed)
    kept, held = ([record.image_id for record in each.records] for each in (train_set, val_set))
    assert sorted(kept + held) == list(range(len(labels)))
    assert kept == sorted(kept)
    in_train, in_val = (
        np.bincount(region_labels(each.records), minlength=4) for each in (train_set, val_set)
    )
    for images, trained, measured in zip(in_train + in_val, in_train, in_val, strict=True):
        assert abs(measured - images * fraction) <= 1
        assert (trained > 0) == (images > 0)
        assert (measured > 0) == (images > 1)
