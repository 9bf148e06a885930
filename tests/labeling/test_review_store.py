"""Decisions in the COCO file, read by COCO's own tools; kills, full disks and second tabs."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyweight.core.errors import InputError
from flyweight.data.formats import open_dataset
from flyweight.labeling.review_decision import Decision
from flyweight.labeling.review_journal import Journal
from flyweight.labeling.review_store import ReviewStore, open_store
from tests.labeling.review_data import boxes_in, read_labels, write_labels

A, B, C = 0, 1, 2


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """The COCO file of three pictures in `out`."""
    return write_labels(tmp_path / "out")


@pytest.fixture
def store(labels: Path) -> Iterator[ReviewStore]:
    with open_store(labels.parents[1]) as opened:
        yield opened


def decide(store: ReviewStore, row: int, action: str, **more: Any) -> None:
    state = store.decide(row, store.state(row).revision, Decision(action, **more))
    assert state is not None
    assert state == store.state(row)


def test_the_order(store: ReviewStore) -> None:
    assert store.queue == [B, A, C]


def test_every_decision_reaches_the_file(labels: Path) -> None:
    before = boxes_in(labels)
    with open_store(labels.parents[1]) as store:
        decide(store, B, "accept", box=4)
        decide(store, A, "drop", box=1)
        decide(store, A, "fix", box=2, category=3)
        decide(store, A, "add", box_xyxy=(1, 2, 4, 6), category=1)
        decide(store, A, "done")
        decide(store, C, "done")
    after = boxes_in(labels)
    assert after.keys() == {2, 3, 4, 5}
    assert after[3] == before[3]
    for box, mark in ((2, "fixed"), (4, "accepted")):
        assert "uncertain" not in after[box]
        assert after[box] == {
            **{name: value for name, value in before[box].items() if name != "uncertain"},
            "iscrowd": 0,
            "reviewed": mark,
            "category_id": 3 if box == 2 else 1,
        }
    assert after[5] == {
        "id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0,
        "reviewed": "added",
    }  # fmt: skip
    images = read_labels(labels).imgs
    assert [images[number].get("reviewed") for number in (1, 2, 3)] == ["done", "begun", "done"]
    # our own loader takes it as any other data set
    assert [len(record) for record in open_dataset(labels.parents[1], "train").records] == [2, 2, 0]
    assert sorted(path.name for path in labels.parent.iterdir()) == [
        ".instances_train.lock",
        labels.name,
    ]


def test_a_second_session_goes_on_with_what_is_left(labels: Path) -> None:
    with open_store(labels.parents[1]) as store:
        decide(store, B, "done")
        decide(store, A, "accept", box=2)
    with open_store(labels.parents[1]) as store:
        # box 1 of A has a score far from its threshold, C has none; B is done
        assert store.queue == [A, C, B]
        assert store.done == 1
        assert store.marks() == {"accepted": 1, "fixed": 0, "added": 0}
        with pytest.raises(InputError, match="nothing of this session"):
            store.decide(A, 0, Decision("undo"))


def test_undo_gives_back_every_step(labels: Path) -> None:
    before = json.loads(labels.read_text())
    with open_store(labels.parents[1]) as store:
        states = [store.state(A)]
        for decision in (
            {"action": "accept", "box": 2},
            {"action": "add", "box_xyxy": (1, 2, 4, 6), "category": 1},
            {"action": "drop", "box": 1},
            {"action": "done"},
        ):
            decide(store, A, **decision)
            states.append(store.state(A))
        for expected in states[-2::-1]:
            decide(store, A, "undo")
            assert store.state(A).annotations == expected.annotations
            assert store.state(A).reviewed == expected.reviewed
        assert store.undoable(A) == 0
    after = json.loads(labels.read_text())
    assert after["info"].pop("review") == {"decisions": 8}
    assert after == before


def test_a_stale_decision_changes_nothing(store: ReviewStore, labels: Path) -> None:
    decide(store, A, "drop", box=1)
    assert store.decide(A, 0, Decision("drop", box=2)) is None
    assert [each["id"] for each in store.state(A).annotations] == [2]
    assert store.decide(A, 1, Decision("drop", box=2)) is not None


def test_accepting_twice_is_one_decision(store: ReviewStore) -> None:
    decide(store, A, "accept", box=1)
    decide(store, A, "accept", box=1)
    assert store.state(A).revision == store.undoable(A) == 1


def test_decisions_that_were_not_folded_are_not_lost(
    labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill: the journal has them, the COCO file has not."""
    monkeypatch.setattr(ReviewStore, "fold", lambda self: None)
    before = labels.read_bytes()
    with open_store(labels.parents[1]) as store:
        decide(store, A, "drop", box=1)
        decide(store, A, "add", box_xyxy=(1, 2, 4, 6), category=1)
        decide(store, B, "done")
    assert labels.read_bytes() == before
    monkeypatch.undo()
    with open_store(labels.parents[1]) as store:
        assert boxes_in(labels).keys() == {2, 3, 4, 5}
        decide(store, C, "add", box_xyxy=(1, 2, 4, 6), category=1)
    assert boxes_in(labels).keys() == {2, 3, 4, 5, 6}
    assert read_labels(labels).imgs[2]["reviewed"] == "done"


def test_a_kill_between_the_two_halves_of_folding(
    labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The COCO file is written, the journal is not yet empty: old lines are not taken up again."""
    monkeypatch.setattr(Journal, "clear", lambda self: None)
    with open_store(labels.parents[1]) as store:
        decide(store, A, "drop", box=1)
    monkeypatch.undo()
    content = json.loads(labels.read_text())
    assert content["info"]["review"] == {"decisions": 1}
    # somebody mends the file by hand: what is folded must not undo it
    content["annotations"] = [each for each in content["annotations"] if each["id"] != 2]
    labels.write_text(json.dumps(content))
    with open_store(labels.parents[1]) as store:
        assert store.state(A).annotations == ()
        decide(store, A, "add", box_xyxy=(1, 2, 4, 6), category=1)
    assert boxes_in(labels).keys() == {3, 4, 5}


def full(*_: Any) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_an_error_and_no_decision(
    labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(labels.parents[1]) as store:
        decide(store, A, "drop", box=1)
        before = store.state(A)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.decide(A, before.revision, Decision("drop", box=2))
        assert store.state(A) == before
        monkeypatch.undo()
        decide(store, A, "fix", box=2, category=1)
    assert boxes_in(labels)[2]["category_id"] == 1


def test_a_disk_that_is_full_at_the_end(labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The COCO file cannot be written any more: what was decided waits in the journal."""
    with (
        pytest.raises(InputError, match="the disk is full"),
        open_store(labels.parents[1]) as store,
    ):
        monkeypatch.setattr(os, "replace", full)
        decide(store, A, "drop", box=1)
    monkeypatch.undo()
    assert boxes_in(labels).keys() == {1, 2, 3, 4}
    with open_store(labels.parents[1]):
        assert boxes_in(labels).keys() == {2, 3, 4}


def test_what_is_not_ours_stays(labels: Path) -> None:
    """Licences, polygons, string ids, boxes of unknown pictures: as they were."""
    content = json.loads(labels.read_text())
    content["licenses"] = [{"id": 1, "name": "CC0 – free"}]
    for entry in content["images"]:
        entry["id"] = f"n{entry['id']}"
    for entry in content["annotations"]:
        entry["image_id"] = f"n{entry['image_id']}"
        entry["segmentation"] = [[1, 2, 3, 4, 5, 6]]
    content["annotations"].append(content["annotations"][0] | {"id": 50, "image_id": "gone"})
    labels.write_text(json.dumps(content))
    with open_store(labels.parents[1]) as store:
        decide(store, C, "add", box_xyxy=(1, 2, 4, 6), category=1)
    after = json.loads(labels.read_text())
    assert after["licenses"] == content["licenses"]
    assert after["annotations"].pop(4)["id"] == 51
    assert after["annotations"] == content["annotations"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "broken JSON"),
        ('{"images": [], "annotations": []}', "no list 'categories'"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', r"images\[0\]"),
        ('{"images": [], "categories": [], "annotations": [{"id": NaN}]}', "NaN"),
        ('{"images": [], "categories": [], "annotations": [], "info": "mine"}', "info"),
    ],
)
def test_files_that_will_not_do(labels: Path, text: str, words: str) -> None:
    labels.write_text(text)
    with pytest.raises(InputError, match=words), open_store(labels.parents[1]):
        pass
    assert labels.read_text() == text


def test_a_folder_without_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no labels to review"), open_store(tmp_path):
        pass
    assert not any(tmp_path.iterdir())


def test_a_second_process_is_refused(store: ReviewStore) -> None:
    with (
        pytest.raises(InputError, match=f"process {os.getpid()} is at work"),
        open_store(store.folder.root),
    ):
        pass


def test_pictures_outside_the_data_set_are_not_shown(labels: Path) -> None:
    secret = labels.parents[1] / "images" / "secret.png"
    secret.write_bytes(b"x")
    content = json.loads(labels.read_text())
    content["images"][0]["file_name"] = "../secret.png"
    content["images"][1]["file_name"] = str(secret)
    labels.write_text(json.dumps(content))
    with open_store(labels.parents[1]) as store:
        assert store.picture_file(0) is None
        assert store.picture_file(1) is None
        assert store.picture_file(2) is not None
