"""Labelling the same folder again keeps what a person has decided."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyweight.core.errors import InputError
from flyweight.data.records import DetectionDataset
from flyweight.labeling.label import LabelledFolder, label_folder
from flyweight.labeling.labeler import Labeler
from flyweight.labeling.review_decision import Decision
from flyweight.labeling.review_file import FolderOfLabels
from flyweight.labeling.review_merge import kept_reviews
from flyweight.labeling.review_store import ReviewStore, open_store

Run = Callable[..., LabelledFolder]


@pytest.fixture
def run(
    unlabelled: DetectionDataset, labelled: DetectionDataset, labeler: Labeler, tmp_path: Path
) -> Run:
    """Label the eleven pictures into `out`."""

    def start(**options: Any) -> LabelledFolder:
        return label_folder(
            unlabelled.root, tmp_path / "out", labeler, labelled, shard_images=4, **options
        )

    return start


def by_name(made: LabelledFolder) -> dict[str, tuple[Any, list[dict[str, Any]]]]:
    """Name → the picture's mark and annotations, without ids."""
    content = json.loads(made.annotations.read_text())
    annotations: dict[int, list[dict[str, Any]]] = {each["id"]: [] for each in content["images"]}
    assert [each["id"] for each in content["annotations"]] == [
        *range(1, len(content["annotations"]) + 1)
    ]
    for each in content["annotations"]:
        each.pop("id")
        annotations[each.pop("image_id")].append(each)
    return {
        each["file_name"]: (each.get("reviewed"), annotations[each["id"]])
        for each in content["images"]
    }


def review(store: ReviewStore) -> None:
    """Two pictures: a box dropped and the picture called done; a box fixed."""
    first, second = [row for row in range(len(store)) if len(store.state(row).annotations) > 1][:2]
    box = store.state(first).annotations[0]["id"]
    store.decide(first, 0, Decision("drop", box=box))
    store.decide(first, 1, Decision("done"))
    box = store.state(second).annotations[1]["id"]
    store.decide(second, 0, Decision("fix", box=box, box_xyxy=(1, 2, 9, 8), category=1))


def test_other_thresholds_leave_reviewed_pictures_alone(run: Run) -> None:
    run(uncertain=0.1)
    with open_store(run().root) as store:
        review(store)
    before = by_name(again := run())
    assert again.counts.reviewed == 2
    after = by_name(changed := run(uncertain=1.0))
    assert sorted(filter(None, (mark for mark, _ in after.values()))) == ["begun", "done"]
    plain = [name for name, (mark, _) in before.items() if mark is None]
    assert {name: after[name] for name in after if name not in plain} == {
        name: before[name] for name in before if name not in plain
    }
    # the others follow the new threshold: nothing is uncertain any more
    assert not any(each["iscrowd"] for name in plain for each in after[name][1])
    kept = [each for _, boxes in after.values() for each in boxes]
    assert changed.counts.objects.sum() == sum(not each["iscrowd"] for each in kept)
    assert changed.counts.uncertain.sum() == sum(each["iscrowd"] for each in kept)
    assert changed.counts.empty == sum(
        all(each["iscrowd"] for each in boxes) for _, boxes in after.values()
    )
    assert changed.to_dict()["reviewed"] == 2


def test_decisions_that_were_not_folded_are_kept_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run()
    monkeypatch.setattr(ReviewStore, "fold", lambda self: None)
    with open_store(made.root) as store:
        review(store)
    monkeypatch.undo()
    assert FolderOfLabels(made.root).journal.exists()
    assert run().counts.reviewed == 2
    assert not FolderOfLabels(made.root).journal.exists()


def test_an_open_review_is_not_written_over(run: Run) -> None:
    made = run()
    with open_store(made.root) as store:
        review(store)
        with pytest.raises(InputError, match="is at work on these labels"):
            run(uncertain=1.0)
    assert run().counts.reviewed == 2


def test_no_review_begins_meanwhile(run: Run) -> None:
    made = run()
    with (
        kept_reviews(made.root) as reviewed,
        pytest.raises(InputError, match="is at work on these labels"),
        open_store(made.root),
    ):
        pass
    assert reviewed == {}


def test_a_review_that_was_taken_back_leaves_nothing(run: Run) -> None:
    made = run()
    before = made.annotations.read_bytes()
    with open_store(made.root) as store:
        box = store.state(0).annotations[0]["id"]
        store.decide(0, 0, Decision("drop", box=box))
        store.decide(0, 1, Decision("undo"))
    again = run()
    assert again.counts.reviewed == 0
    assert again.annotations.read_bytes() == before
