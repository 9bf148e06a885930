from __future__ import annotations

from pathlib import Path

import pytest

from flyweight.data.formats import open_dataset
from flyweight.export.splits import export_data
from flyweight.training.run import training_splits


def names(dataset: object) -> set[str]:
    return {record.path.name for record in dataset.records}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["bccd", "cards"])
def test_nothing_is_chosen_on_what_is_calibrated_or_reported_on(
    name: str, shared_dir: Path
) -> None:
    """With a split val (bccd), and where training set some of its images aside (cards)."""
    root = shared_dir / "data" / name
    sets = export_data(root)
    trained_on, chosen_on, _ = training_splits(root)
    assert names(sets.calibration) == names(trained_on)
    assert names(sets.choosing) == names(chosen_on)
    assert names(sets.reporting) == names(open_dataset(root, "test"))
    assert not names(sets.choosing) & (names(sets.calibration) | names(sets.reporting))


def test_one_split_serves_for_all(bccd_dir: Path) -> None:
    val = open_dataset(bccd_dir, "val")
    sets = export_data(val)
    assert sets.calibration is sets.choosing is sets.reporting is val
    train = open_dataset(bccd_dir, "train")
    assert export_data(val, train).calibration is train
