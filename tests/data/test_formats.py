from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.data.formats import (
    FORMATS,
    available_splits,
    convert_dataset,
    detect_format,
    open_dataset,
    open_splits,
    save_dataset,
    split_for_validation,
)
from flyweight.data.records import DetectionDataset, Problem, Record


@pytest.fixture
def small(pictures: list[Path]) -> dict[str, DetectionDataset]:
    """Three images in two splits, with classes whose names are in order."""
    records = [
        Record(
            number,
            path,
            size_hw,
            np.array([[1, 2, 5 + number, 8]], np.float32),
            np.array([number % 2], np.int64),
            np.zeros(1, bool),
            np.zeros(1, bool),
        )
        for number, (path, size_hw) in enumerate(
            zip(pictures, ((48, 64), (31, 57), (200, 10)), strict=True)
        )
    ]
    root = pictures[0].parent
    return {
        "train": DetectionDataset(tuple(records[:2]), ("a", "b"), root, "train", "test"),
        "val": DetectionDataset(tuple(records[2:]), ("a", "b"), root, "val", "test"),
    }


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_every_format_converts_to_every_other(
    small: dict[str, DetectionDataset], tmp_path: Path, source: str, target: str
) -> None:
    save_dataset(small, tmp_path / "one", data_format=source)
    convert_dataset(tmp_path / "one", tmp_path / "two", data_format=target, link=True)
    assert detect_format(tmp_path / "two") == target
    assert available_splits(tmp_path / "two") == ["train", "val"]
    for split, dataset in open_splits(tmp_path / "two").items():
        assert (dataset.split, dataset.format) == (split, target)
        assert dataset.class_names == ("a", "b")
        for before, after in zip(small[split].records, dataset.records, strict=True):
            np.testing.assert_allclose(after.boxes_xyxy, before.boxes_xyxy, atol=1e-4)
            np.testing.assert_array_equal(after.labels, before.labels)
            assert after.size_hw == before.size_hw


@pytest.mark.parametrize(
    ("name", "data_format", "splits", "classes"),
    [
        ("bccd", "voc", {"train": 205, "val": 87, "test": 72}, 3),
        ("cards", "voc", {"train": 296, "test": 67}, 6),
        ("voc6", "coco", {"train": 3000, "val": 426}, 6),
        ("tiny_coco", "coco", {"train": 50, "val": 50}, 80),
    ],
)
def test_real_data(
    shared_dir: Path, name: str, data_format: str, splits: dict[str, int], classes: int
) -> None:
    root = shared_dir / "data" / name
    assert detect_format(root) == data_format
    found = open_splits(root)
    assert {split: len(dataset) for split, dataset in found.items()} == splits
    assert {len(dataset.class_names) for dataset in found.values()} == {classes}
    assert len({dataset.class_names for dataset in found.values()}) == 1
    assert len(open_dataset(root)) == sum(splits.values())


def test_trainval_and_synonyms(bccd_dir: Path) -> None:
    assert len(open_dataset(bccd_dir, "trainval")) == 205 + 87
    assert open_dataset(bccd_dir, "valid").split == "val"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for function in (open_dataset, available_splits, detect_format):
        with pytest.raises(InputError, match="no such folder"):
            function(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file, not a folder"):
        open_dataset(tmp_path / "file")


def test_an_empty_folder_and_images_without_annotations(
    tmp_path: Path, draw_picture: Callable[..., Path]
) -> None:
    with pytest.raises(InputError, match="the data set is empty"):
        open_dataset(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="no images and no annotations"):
        open_dataset(tmp_path)
    draw_picture(tmp_path / "images/a.png")
    with pytest.raises(InputError, match="1 images and no annotations"):
        open_dataset(tmp_path)


def test_the_handler_reaches_the_loader(small: dict[str, DetectionDataset], tmp_path: Path) -> None:
    root = save_dataset(small, tmp_path / "out", data_format="voc")
    (root / "JPEGImages/b.jpg").unlink()
    seen: list[Problem] = []
    assert len(open_dataset(root, on_problem=seen.append)) == 2
    assert [problem.code for problem in seen] == ["missing_image"]


def test_split_for_validation_is_a_seeded_partition(bccd_dir: Path) -> None:
    dataset = open_dataset(bccd_dir, "train")
    train, val = split_for_validation(dataset, 0.2, seed=3)
    assert (len(train), len(val)) == (164, 41)
    assert (train.split, val.split) == ("train", "val")
    ids = [record.image_id for record in dataset.records]
    parts = [[record.image_id for record in part.records] for part in (train, val)]
    assert sorted(parts[0] + parts[1]) == sorted(ids)
    assert [part == sorted(part, key=ids.index) for part in parts] == [True, True]
    again = split_for_validation(dataset, 0.2, seed=3)[1]
    assert [record.image_id for record in again.records] == parts[1]
    other = split_for_validation(dataset, 0.2, seed=4)[1]
    assert [record.image_id for record in other.records] != parts[1]


def test_split_for_validation_leaves_neither_side_empty(bccd_dir: Path) -> None:
    pair = open_dataset(bccd_dir, "train").subset(range(2))
    for fraction in (0.01, 0.99):
        assert [len(part) for part in split_for_validation(pair, fraction)] == [1, 1]
    with pytest.raises(InputError, match="one image"):
        split_for_validation(pair.subset([0]))
    with pytest.raises(InputError, match=r"share for validation is 1\.5"):
        split_for_validation(pair, 1.5)


def test_nothing_is_written_over_and_nothing_half(
    small: dict[str, DetectionDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/keep.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        save_dataset(small, tmp_path / "full", data_format="voc")
    (tmp_path / "empty").mkdir()
    save_dataset(small, tmp_path / "empty", data_format="voc")

    copied = []

    def fill_the_disk(source: Any, target: Any) -> None:
        if copied:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        copied.append(target)

    monkeypatch.setattr(shutil, "copyfile", fill_the_disk)
    for data_format in FORMATS:
        copied.clear()
        with pytest.raises(InputError, match="disk is full"):
            save_dataset(small, tmp_path / "out", data_format=data_format)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]
    assert (tmp_path / "full/keep.txt").read_text() == "mine"


def test_a_source_image_that_went_away(small: dict[str, DetectionDataset], tmp_path: Path) -> None:
    root = save_dataset(small, tmp_path / "one", data_format="coco")
    splits = open_splits(root)
    splits["val"][0].path.unlink()
    with pytest.raises(InputError, match="image is missing"):
        save_dataset(splits, tmp_path / "two", data_format="yolo")
    assert not (tmp_path / "two").exists()


def test_unknown_format(small: dict[str, DetectionDataset], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown data format 'csv'; known are coco, voc, yolo"):
        save_dataset(small, tmp_path / "out", data_format="csv")


@pytest.mark.parametrize("link", [True, False])
def test_links_share_the_file_and_copies_do_not(
    small: dict[str, DetectionDataset], tmp_path: Path, link: bool
) -> None:
    one = save_dataset(small, tmp_path / "one", data_format="coco")
    convert_dataset(one, tmp_path / "two", data_format="coco", link=link)
    paths = [open_dataset(tmp_path / name, "val")[0].path for name in ("one", "two")]
    assert paths[0].samefile(paths[1]) == link
    assert paths[0].read_bytes() == paths[1].read_bytes()
