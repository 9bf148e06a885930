"""A second data set in a training: what `flyweight label` makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flyweight.core.errors import InputError
from flyweight.data.formats import save_dataset
from flyweight.data.records import DetectionDataset
from flyweight.models.detectors import checkpoint
from flyweight.models.detectors.detector import Detector
from flyweight.training import loop
from flyweight.training.batches import EpochBatches
from flyweight.training.recipe import Recipe
from flyweight.training.run import extra_pictures
from flyweight.training.sample_source import epoch_order, mixed


@pytest.fixture
def extra_set(val_set: DetectionDataset) -> DetectionDataset:
    """4 images whose ids are also those of others."""
    return replace(val_set, split="train")


def batches(order: Any, *, rank: int = 0, world_size: int = 1, size: int = 4) -> EpochBatches:
    made = EpochBatches(18, batch_size=size, seed=3, rank=rank, world_size=world_size, order=order)
    made.start_at(2)
    return made


def test_both_are_one_data_set(train_set: DetectionDataset, extra_set: DetectionDataset) -> None:
    both = mixed(train_set, extra_set)
    assert len(both) == 18
    assert both[14].path == extra_set[0].path
    assert len({record.image_id for record in both.records}) == 18
    assert both.split == "train"


def test_processes_share_the_epoch_of_one(train_set: DetectionDataset, quick: Recipe) -> None:
    order = epoch_order(train_set, quick, extra=4)
    alone = list(batches(order, size=4))
    halves = zip(
        *(list(batches(order, rank=rank, world_size=2, size=2)) for rank in (0, 1)), strict=True
    )
    assert [first + second for first, second in halves] == alone
    shown = [draw.record for batch in alone for draw in batch]
    assert sum(record >= 14 for record in shown) == pytest.approx(len(shown) / 2, abs=1)


def test_an_epoch_goes_on_where_it_was(train_set: DetectionDataset, quick: Recipe) -> None:
    order = epoch_order(train_set, replace(quick, ratio=2.0, balance=0.9), extra=4)
    whole = list(batches(order))
    resumed = batches(order)
    resumed.start_at(2, 3)
    assert list(resumed) == whole[3:]
    # four others for 28 turns: each comes seven times, each time with other random numbers
    draws = [draw for batch in whole for draw in batch]
    assert len(set(draws)) == len(draws)


def test_a_run_resumes_only_with_its_own_mixture(
    train_set: DetectionDataset,
    extra_set: DetectionDataset,
    new_detector: Callable[..., Detector],
    quick: Recipe,
    tmp_path: Path,
) -> None:
    recipe = replace(quick, epochs=1, batch_size=7, ratio=0.5)

    def train(**options: Any) -> Any:
        given = {"recipe": recipe, "extra": extra_set} | options
        return loop.train(
            new_detector(), train_set, None, run_dir=tmp_path / "run", progress=False, **given
        )

    result = train()
    lineage = checkpoint.load(result.best_checkpoint).lineage["data"]
    assert lineage["images"] == 14
    assert lineage["extra"]["images"] == 4
    with pytest.raises(InputError, match=r"ratio 0\.5, not 1\.0"):
        train(resume=True, recipe=replace(recipe, ratio=1.0))
    with pytest.raises(InputError, match="training data has changed"):
        train(resume=True, extra=None)
    assert train(resume=True).epochs == 1


def test_classes_must_be_the_same(
    train_set: DetectionDataset, extra_set: DetectionDataset, tmp_path: Path
) -> None:
    save_dataset(extra_set, tmp_path / "extra", data_format="coco")
    notes: list[str] = []
    turned = replace(train_set, class_names=("green", "red"))
    extra = extra_pictures(tmp_path / "extra", turned, note=notes.append)
    assert extra.class_names == ("green", "red")
    assert extra[0].labels.tolist() == [1 - label for label in extra_set[0].labels]
    assert notes == ["4 extra pictures are mixed in"]
    with pytest.raises(InputError, match="classes red, green, the labelled data red, blue"):
        extra_pictures(tmp_path / "extra", replace(train_set, class_names=("red", "blue")))
