from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.data.records import (
    DetectionDataset,
    Problem,
    Record,
    choose_splits,
    concatenate,
    find_box_faults,
    named_splits,
    report_problem,
)


def make_dataset(
    labels: list[list[int]], class_names: tuple[str, ...], split: str = "train"
) -> DetectionDataset:
    records = tuple(
        Record(
            number,
            Path(f"{number}.jpg"),
            (10, 10),
            np.tile(np.array([1, 1, 3, 3], np.float32), (len(row), 1)),
            np.array(row, dtype=np.int64),
            np.zeros(len(row), bool),
            np.zeros(len(row), bool),
        )
        for number, row in enumerate(labels)
    )
    return DetectionDataset(records, class_names, Path("root"), split, "coco")


def test_subset_keeps_the_order_of_the_indices() -> None:
    dataset = make_dataset([[0], [1], [0, 1]], ("a", "b"))
    chosen = dataset.subset(np.array([2, 0]))
    assert [record.image_id for record in chosen.records] == [2, 0]
    assert len(chosen) == 2
    assert len(chosen[0]) == 2


def test_remap_renumbers_by_name() -> None:
    dataset = make_dataset([[0, 1], [], [1]], ("a", "b"))
    mapped = dataset.remap(("b", "x", "a"))
    assert mapped.class_names == ("b", "x", "a")
    assert [record.labels.tolist() for record in mapped.records] == [[2, 0], [], [0]]
    assert mapped[0].labels.dtype == np.int64
    assert dataset[0].labels.tolist() == [0, 1]


def test_remap_refuses_a_class_with_objects_only() -> None:
    dataset = make_dataset([[0], [0]], ("a", "unused"))
    assert dataset.remap(("a",)).class_names == ("a",)
    with pytest.raises(InputError, match=r"not known here: a .*known classes are b"):
        dataset.remap(("b",))


@pytest.mark.parametrize(
    ("box", "code"),
    [
        ((0, 0, 1, 1), None),
        ((-5, -5, 20, 20), None),
        ((0, np.nan, 1, 1), "nan_box"),
        ((0, 0, np.inf, 1), "nan_box"),
        ((0, 0, 1e39, 1), "nan_box"),  # beyond float32
        ((2, 0, 1, 1), "inverted_box"),
        ((0, 1, 1, 1), "empty_box"),
        ((600, 0, 600 + 1e-6, 1), "empty_box"),  # no side is left in float32
    ],
)
def test_box_faults(box: tuple[float, ...], code: str | None) -> None:
    faults = find_box_faults(np.array([[0, 0, 4, 4], box], dtype=np.float64))
    assert {row: fault.code for row, fault in faults.items()} == ({1: code} if code else {})


def test_an_error_raises_without_a_handler_and_a_warning_does_not() -> None:
    report_problem(Problem("empty_box", "no area", "a.xml", severity="warning"), None)
    problem = Problem("nan_box", "not a number", "a.xml, object 2", "correct it")
    with pytest.raises(InputError, match=r"not a number \(a.xml, object 2\); correct it"):
        report_problem(problem, None)
    seen: list[Problem] = []
    report_problem(problem, seen.append)
    assert seen == [problem]


def test_splits_that_a_word_stands_for() -> None:
    root = Path("root")
    available = ["train", "val", "test"]
    assert choose_splits(None, available, root) == available
    assert choose_splits("all", available, root) == available
    assert choose_splits("valid", available, root) == ["val"]
    assert choose_splits("trainval", available, root) == ["train", "val"]
    assert choose_splits("trainval", ["train", "test"], root) == ["train"]
    with pytest.raises(InputError, match=r"no split 'val' \(root\); it has train"):
        choose_splits("val", ["train"], root)
    with pytest.raises(InputError, match="no split 'nonsense'"):
        choose_splits("nonsense", available, root)


def test_concatenation_gives_equal_ids_their_split() -> None:
    one = make_dataset([[0]], ("a",), "train")
    both = concatenate([one, make_dataset([[0], []], ("a",), "val")], "all")
    assert [record.image_id for record in both.records] == ["train/0", "val/0", "val/1"]
    assert both.split == "all"


def test_writers_take_one_data_set_or_named_splits() -> None:
    dataset = make_dataset([[0]], ("a",), "val")
    assert list(named_splits(dataset)) == ["val"]
    assert list(named_splits(concatenate([dataset], "all"))) == ["train"]
    with pytest.raises(InputError, match="different classes"):
        named_splits({"train": dataset, "val": make_dataset([[0]], ("b",))})
