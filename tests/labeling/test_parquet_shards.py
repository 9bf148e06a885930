"""Shards as Parquet: what pyarrow itself reads in them, and runs that mix both formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.data.records import DetectionDataset
from flyweight.labeling.label import label_folder
from flyweight.labeling.labeler import Labeler
from flyweight.labeling.labelled_image import LabelledImage, unread
from flyweight.labeling.parquet_shards import read_parquet, write_parquet
from flyweight.labeling.shards import PARQUET, Shard, label_shard, read_shards, write_shards
from flyweight.labeling.weighted_box_fusion import FusedBoxes
from tests.labeling.plain_detections import detections_of

REASON = "pyarrow is not installed: pip install 'flyweight[cluster]'"
parquet: Any = pytest.importorskip("pyarrow.parquet", reason=REASON)


def rows(count: int, *, seed: int = 0) -> list[LabelledImage]:
    """Pictures with up to nine boxes, found by some of three sources; the last cannot be read."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count - 1):
        boxes = int(rng.integers(0, 10))
        corners = rng.uniform(0, 4000, (boxes, 2, 2))
        found = detections_of(
            np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1),
            np.sort(rng.uniform(0, 1, boxes))[::-1],
            rng.integers(0, 80, boxes),
        )
        sources = rng.uniform(size=(boxes, 3)) < 0.5
        made.append(LabelledImage(f"ü/{number}.jpg", (3000, 4000), FusedBoxes(found, sources)))
    return [*made, unread("gone.jpg", "the picture does not exist")]


def test_rows_come_back_as_from_json_lines(tmp_path: Path) -> None:
    given = rows(150)
    write_parquet(tmp_path / "a.parquet", given)
    again = list(read_parquet(tmp_path / "a.parquet"))
    lines = [LabelledImage.from_json(row.to_json()) for row in given]
    for one, line in zip(again, lines, strict=True):
        assert (one.name, one.size_hw, one.problem) == (line.name, line.size_hw, line.problem)
        for name in ("boxes_xyxy", "scores", "labels"):
            np.testing.assert_array_equal(
                getattr(one.boxes.detections, name),
                getattr(line.boxes.detections, name),
                strict=True,
            )
        np.testing.assert_array_equal(one.boxes.found_by, line.boxes.found_by, strict=True)


def test_others_can_read_them(tmp_path: Path) -> None:
    found = detections_of([[1.25, 2, 3, 4]], [0.75], [1])
    row = LabelledImage("a.jpg", (48, 64), FusedBoxes(found, np.array([[True, False, True]])))
    write_parquet(tmp_path / "a.parquet", [row, unread("b.jpg", "broken")])
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == [
        {
            "name": "a.jpg", "problem": None, "size_hw": [48, 64],
            "boxes_xyxy": [[1.25, 2.0, 3.0, 4.0]], "scores": [0.75], "labels": [1],
            "found_by": [[0, 2]], "sources": 3,
        },
        {
            "name": "b.jpg", "problem": "broken", "size_hw": None, "boxes_xyxy": None,
            "scores": None, "labels": None, "found_by": None, "sources": None,
        },
    ]  # fmt: skip


def test_a_run_of_both_formats(
    unlabelled: DetectionDataset,
    labelled: DetectionDataset,
    labeler: Labeler,
    teacher: Any,
    tmp_path: Path,
) -> None:
    """A shard that came as Parquet is not labelled again, and the COCO file is the same."""
    whole = label_folder(unlabelled.root, tmp_path / "a", labeler, labelled, shard_images=4)
    label_folder(unlabelled.root, tmp_path / "b", labeler, labelled, shard_images=4)
    folder = tmp_path / "b" / "shards"
    lines = folder / "00001.jsonl"
    write_parquet(folder / "00001.parquet", list(read_shards([lines])))
    lines.unlink()
    looks = teacher.looks
    mixed = label_folder(unlabelled.root, tmp_path / "b", labeler, labelled, shard_images=4)
    assert teacher.looks == looks
    assert not lines.exists()
    assert mixed.annotations.read_bytes() == whole.annotations.read_bytes()


def test_a_broken_shard(unlabelled: DetectionDataset, labeler: Labeler, tmp_path: Path) -> None:
    pictures = [(record.path.name, record.path) for record in unlabelled.records]
    path = label_shard(Shard(tmp_path / "00000", pictures), labeler, suffix=PARQUET)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        list(read_shards([path]))
    with pytest.raises(InputError, match="cannot be read"):
        write_shards(pictures, labeler, tmp_path)


def test_a_disk_that_is_not_there(
    unlabelled: DetectionDataset, labeler: Labeler, tmp_path: Path
) -> None:
    """Nobody writes down that a hundred thousand pictures are gone."""
    pictures = [(record.path.name, record.path) for record in unlabelled.records]
    unlabelled.root.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is not there on"):
        write_shards(pictures, labeler, tmp_path / "s", shard_images=4)
    assert not (tmp_path / "s").exists()
