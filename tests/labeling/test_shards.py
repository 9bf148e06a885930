from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.data.records import DetectionDataset
from flyweight.labeling.labeler import Labeler
from flyweight.labeling.shards import LabelledImage, read_shards, unread, write_shards
from flyweight.labeling.weighted_box_fusion import FusedBoxes
from tests.labeling.plain_detections import detections_of


def pictures(dataset: DetectionDataset) -> list[tuple[str, Path]]:
    return [(record.path.name, record.path) for record in dataset.records]


def test_lines_come_back() -> None:
    found = detections_of([[1.25, 2, 3, 4], [5, 6, 7.5, 8]], [0.75, 0.5], [1, 0])
    boxes = FusedBoxes(found, np.array([[True, False, True], [False, True, False]]))
    again = LabelledImage.from_json(LabelledImage("ü.jpg", (48, 64), boxes).to_json())
    assert (again.name, again.size_hw, again.problem) == ("ü.jpg", (48, 64), None)
    np.testing.assert_array_equal(again.boxes.found_by, boxes.found_by)
    for name in ("boxes_xyxy", "scores", "labels"):
        np.testing.assert_array_equal(
            getattr(again.boxes.detections, name), getattr(found, name), strict=True
        )
    assert LabelledImage.from_json(unread("a", "gone").to_json()).problem == "gone"


def test_a_restart_does_only_what_is_missing(
    unlabelled: DetectionDataset, labeler: Labeler, teacher: Any, tmp_path: Path
) -> None:
    told: list[int] = []
    given = pictures(unlabelled)
    shards = write_shards(given, labeler, tmp_path / "s", shard_images=4, batch=3)
    assert [path.name for path in shards] == ["00000.jsonl", "00001.jsonl", "00002.jsonl"]
    assert [row.name for row in read_shards(shards)] == [name for name, _ in given]
    whole = [path.read_bytes() for path in shards]
    assert teacher.looks == 2 * 11
    shards[1].unlink()
    again = write_shards(
        given, labeler, tmp_path / "s", shard_images=4, batch=2, progress=told.append
    )
    assert teacher.looks == 2 * (11 + 4)
    assert [path.read_bytes() for path in again] == whole
    assert told[0] == 4
    assert told[-1] == 11


def test_a_shard_of_other_pictures_is_not_taken(
    unlabelled: DetectionDataset, labeler: Labeler, tmp_path: Path
) -> None:
    given = pictures(unlabelled)
    write_shards(given, labeler, tmp_path / "s", shard_images=4)
    with pytest.raises(InputError, match="other pictures"):
        write_shards(given[1:], labeler, tmp_path / "s", shard_images=4)


def test_pictures_are_taken_a_shard_at_a_time(
    unlabelled: DetectionDataset, labeler: Labeler, tmp_path: Path
) -> None:
    """Millions of names never stand side by side."""
    ahead = []

    def names() -> Any:
        for number, picture in enumerate(pictures(unlabelled)):
            ahead.append(number - 4 * len(list((tmp_path / "s").glob("*.jsonl"))))
            yield picture

    write_shards(names(), labeler, tmp_path / "s", shard_images=4)
    assert max(ahead) == 3


def test_pictures_that_vanish_are_listed(
    unlabelled: DetectionDataset, labeler: Labeler, tmp_path: Path
) -> None:
    given = pictures(unlabelled)
    given[0][1].unlink()
    given[3][1].write_bytes(given[3][1].read_bytes()[:50])

    def keep(name: str, path: Path) -> None:
        if name == given[5][0]:
            raise FileNotFoundError(path)

    rows = list(read_shards(write_shards(given, labeler, tmp_path / "s", keep=keep)))
    problems = {number: row.problem for number, row in enumerate(rows) if row.problem}
    assert set(problems) == {0, 3, 5}
    assert problems[0] == problems[5] == "the picture does not exist"
    for record, row in zip(unlabelled.records, rows, strict=True):
        if row.problem is None:
            assert len(row.boxes) == len(record)


def test_a_full_disk_leaves_the_finished_shards(
    unlabelled: DetectionDataset,
    labeler: Labeler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, folder = pictures(unlabelled), tmp_path / "s"
    real = os.fsync

    def fsync(handle: int) -> None:
        if len(list(folder.glob("0*.jsonl"))) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(InputError, match="the disk is full"):
            write_shards(given, labeler, folder, shard_images=4)
    assert sorted(path.name for path in folder.iterdir()) == ["00000.jsonl", "00001.jsonl"]
    assert len(write_shards(given, labeler, folder, shard_images=4)) == 3


def test_boxes_are_of_the_file_not_of_what_was_decoded(tmp_path: Path) -> None:
    """A large JPEG is decoded at a quarter; its boxes are four times those found."""

    class Small(Labeler):
        decode_size_hw = (100, 100)

        def __call__(self, images: Any) -> list[FusedBoxes]:
            assert images[0].shape == (200, 300, 3)
            found = detections_of([[10, 20, 30, 40]], [0.5], [0])
            return [FusedBoxes(found, np.ones((1, 1), bool))]

    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((800, 1200, 3), np.uint8))
    [row] = read_shards(write_shards([("a", tmp_path / "a.jpg")], Small([], []), tmp_path / "s"))
    assert row.size_hw == (800, 1200)
    np.testing.assert_array_equal(row.boxes.detections.boxes_xyxy, [[40, 80, 120, 160]])


def test_a_broken_shard(tmp_path: Path) -> None:
    (tmp_path / "0.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="cannot be read"):
        list(read_shards([tmp_path / "0.jsonl"]))
