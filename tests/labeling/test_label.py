"""A whole run: its data set, its restart, and what can go wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.data.formats import open_dataset
from flyweight.data.records import DetectionDataset
from flyweight.labeling.label import LabelledFolder, label_folder
from flyweight.labeling.labeler import Labeler


@pytest.fixture
def run(
    unlabelled: DetectionDataset, labelled: DetectionDataset, labeler: Labeler, tmp_path: Path
) -> Callable[..., LabelledFolder]:
    def start(out: str = "out", **options: Any) -> LabelledFolder:
        given: dict[str, Any] = {"labeler": labeler, "labelled": labelled, "shard_images": 4}
        given |= options
        return label_folder(unlabelled.root, tmp_path / out, **given)

    return start


def test_the_labels_are_the_truth(
    run: Callable[..., LabelledFolder], unlabelled: DetectionDataset
) -> None:
    """The teacher makes no mistakes: as many boxes as objects are all of them."""
    made = run()
    assert made.counts.images == 11
    dataset = open_dataset(made.root, "train")
    assert dataset.class_names == unlabelled.class_names
    truth = {record.path.name: record for record in unlabelled.records}
    found_all = 0
    for record in dataset.records:
        real = truth[record.path.name]
        assert record.path.samefile(real.path)
        kept = ~record.crowd
        for box, label in zip(record.boxes_xyxy[kept], record.labels[kept], strict=True):
            np.testing.assert_allclose(box, real.boxes_xyxy[real.labels == label][0])
        found_all += len(record)
    assert found_all == sum(len(record) for record in unlabelled.records)
    info = json.loads(made.annotations.read_text())["info"]
    assert [each["name"] for each in info["thresholds"]] == ["red", "green"]
    assert info["teachers"][0]["sha256"] == "0" * 64


def test_a_run_that_was_stopped_gives_the_same_file(
    run: Callable[..., LabelledFolder], teacher: Any
) -> None:
    whole = run("whole").annotations.read_bytes()

    def stop(what: str, done: int, total: int) -> None:
        if what == "labelling" and done > 6:
            raise KeyboardInterrupt

    before = teacher.looks
    with pytest.raises(KeyboardInterrupt):
        run("stopped", progress=stop)
    first = teacher.looks - before
    again = run("stopped")
    # twelve pictures to calibrate on and one shard of four are not looked at again
    assert teacher.looks - before - first == 2 * 7
    assert again.annotations.read_bytes() == whole


def test_other_thresholds_need_no_teacher(run: Callable[..., LabelledFolder], teacher: Any) -> None:
    sure = run(uncertain=1.0)
    looks = teacher.looks
    unsure = run(uncertain=0.0)
    assert teacher.looks == looks
    assert sure.counts.uncertain.sum() == 0
    np.testing.assert_array_equal(unsure.counts.objects, sure.counts.objects)


def test_pictures_that_go_and_come(
    run: Callable[..., LabelledFolder], unlabelled: DetectionDataset
) -> None:
    first, last = unlabelled.records[0].path, unlabelled.records[-1].path

    def change(what: str, done: int, total: int) -> None:
        if what == "labelling" and first.exists():
            first.with_name("new.png").write_bytes(first.read_bytes())
            os.unlink(last)
            os.unlink(first)

    made = run(progress=change)
    # the first had been read and is kept; the last was gone before its turn
    assert [each["name"] for each in made.counts.missing] == [
        last.relative_to(unlabelled.root).as_posix()
    ]
    assert made.counts.images == 10
    assert len(open_dataset(made.root, "train")) == 10
    again = run()
    assert again.new_images == 1
    assert again.annotations.read_bytes() == made.annotations.read_bytes()


def test_copies_are_files_of_their_own(
    run: Callable[..., LabelledFolder], unlabelled: DetectionDataset
) -> None:
    dataset = open_dataset(run(copy=True).root, "train")
    path = dataset.records[0].path
    assert path.stat().st_nlink == 1
    assert path.read_bytes() == (unlabelled.root / path.name).read_bytes()


def test_other_settings_are_another_run(
    run: Callable[..., LabelledFolder],
    teacher: Any,
    labelled: DetectionDataset,
    labeler_of: Callable[..., Labeler],
) -> None:
    run()
    with pytest.raises(InputError, match="begun with other views"):
        run(labeler=labeler_of(teacher, scales=(1.0, 0.5)))
    with pytest.raises(InputError, match="begun with other shard"):
        run(shard_images=5)
    with pytest.raises(InputError, match="begun with other labelled slice"):
        run(labelled=labelled.subset(range(11)))


def test_folders_that_will_not_do(
    run: Callable[..., LabelledFolder], unlabelled: DetectionDataset, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="among the pictures"):
        run("pictures/out")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "a.txt").touch()
    with pytest.raises(InputError, match="not empty"):
        run("used")


def test_a_labelled_picture_that_is_gone(
    run: Callable[..., LabelledFolder], labelled: DetectionDataset
) -> None:
    labelled.records[0].path.unlink()
    with pytest.raises(InputError, match=r"a labelled picture cannot be read.*00\.png"):
        run()
