from __future__ import annotations

import pickle
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from flyweight.data.record_table import RecordTable
from flyweight.data.records import DetectionDataset, Record

COUNTS = [2, 0, 1, 0, 3]


@pytest.fixture
def table() -> RecordTable:
    count = sum(COUNTS)
    return RecordTable(
        image_ids=[10, "b", 12, 13, 14],
        paths=[f"pictures/{number}.jpg" for number in range(len(COUNTS))],
        sizes_hw=np.arange(1, 2 * len(COUNTS) + 1).reshape(-1, 2),
        ends=np.cumsum(COUNTS),
        boxes_xyxy=np.arange(4 * count, dtype=np.float32).reshape(-1, 4),
        labels=np.arange(count) % 3,
        crowd=np.arange(count) % 2 == 0,
        difficult=np.arange(count) % 2 == 1,
        areas=np.arange(count, dtype=np.float32),
    )


def assert_same(found: Record, expected: Record) -> None:
    for field in fields(Record):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name))


def test_a_row_is_a_record(table: RecordTable) -> None:
    record = table[4]
    assert (record.image_id, record.path, record.size_hw) == (14, Path("pictures/4.jpg"), (9, 10))
    assert record.boxes_xyxy[:, 0].tolist() == [12, 16, 20]
    assert record.labels.tolist() == [0, 1, 2]
    assert record.areas is not None
    assert record.areas.tolist() == [3, 4, 5]
    assert len(table[1]) == 0
    assert_same(table[-1], record)
    with pytest.raises(IndexError):
        table[5]


def test_it_is_a_sequence(table: RecordTable) -> None:
    assert [len(record) for record in table] == COUNTS
    for found, expected in zip(table[3:0:-2], [table[3], table[1]], strict=True):
        assert_same(found, expected)
    assert_same(pickle.loads(pickle.dumps(table))[2], table[2])


@pytest.mark.parametrize("indices", [[], [4], [1, 3], [4, 0, 2, 0, -1], list(range(5))])
def test_taken_rows_are_the_same_records(table: RecordTable, indices: list[int]) -> None:
    taken = table.take(indices)
    assert len(taken) == len(indices)
    for found, index in zip(taken, indices, strict=True):
        assert_same(found, table[index])
    assert len(taken.take([])) == 0
    assert len(taken.take([]).take([])) == 0


def test_a_data_set_of_it_is_as_one_of_records(table: RecordTable) -> None:
    ours = DetectionDataset(table, ("a", "b", "c"), Path("root"), "train", "coco")  # type: ignore[arg-type, unused-ignore]
    theirs = DetectionDataset(tuple(table), ("a", "b", "c"), Path("root"), "train", "coco")
    for change in (
        lambda data: data.subset([3, 0]),
        lambda data: data.remap(("c", "x", "a", "b")),
    ):
        for found, expected in zip(change(ours).records, change(theirs).records, strict=True):
            assert_same(found, expected)
