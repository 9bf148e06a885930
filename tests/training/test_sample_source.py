"""What a recipe makes of the samples: cached, balanced, plain in the last epochs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.core.preprocessing import Preprocessing
from flyweight.data.records import DetectionDataset
from flyweight.training.batches import Draw, EpochBatches
from flyweight.training.recipe import Recipe
from flyweight.training.recipes import RECIPES, named_recipe
from flyweight.training.sample_source import epoch_order, make_samples
from flyweight.transforms.presets import TRANSFORMS

INPUT = Preprocessing(size_hw=(64, 64))


@pytest.mark.parametrize("cache", ["memory", "folder"])
def test_a_cache_changes_nothing(train_set: DetectionDataset, tmp_path: Path, cache: str) -> None:
    recipe = Recipe(augmentation="yolov4")
    where = str(tmp_path / "cache") if cache == "folder" else cache
    plain = make_samples(train_set, INPUT, recipe, workers=0)
    cached = make_samples(train_set, INPUT, replace(recipe, cache=where), workers=0)
    for epoch in (0, 1):
        for record in range(len(train_set)):
            mine, theirs = (each.make(Draw(epoch, record)) for each in (cached, plain))
            for left, right in zip(mine, theirs, strict=True):
                np.testing.assert_array_equal(left, right)
    if cache == "folder":
        assert len(list((tmp_path / "cache").rglob("*"))) > len(train_set)


def test_the_last_epochs_show_pictures_as_they_are(train_set: DetectionDataset) -> None:
    recipe = Recipe(epochs=10, close_epochs=3, augmentation="yolox")
    always = make_samples(train_set, INPUT, replace(recipe, close_epochs=0), workers=0)
    closing = make_samples(train_set, INPUT, recipe, workers=0)
    same = [
        np.array_equal(closing.make(Draw(epoch, 0))[0], always.make(Draw(epoch, 0))[0])
        for epoch in range(10)
    ]
    assert same == [True] * 7 + [False] * 3


def test_pictures_of_rare_classes_come_more_often(train_set: DetectionDataset) -> None:
    rare = [i for i, each in enumerate(train_set.records) if 1 in each.labels][:2]
    records = tuple(
        replace(each, labels=np.where(index in rare, each.labels, 0).astype(np.int64))
        for index, each in enumerate(train_set.records)
    )
    data = replace(train_set, records=records)
    assert epoch_order(data, Recipe()) is None
    order = epoch_order(data, Recipe(balance=1.0))
    batches = EpochBatches(len(data), batch_size=1, seed=0, order=order)
    drawn = np.zeros(len(data))
    for epoch in range(50):
        batches.start_at(epoch)
        for [draw] in batches:
            drawn[draw.record] += 1
    often = drawn[rare].mean() / np.delete(drawn, rare).mean()
    # one over the root of the share of the pictures that show the class
    assert often == pytest.approx(np.sqrt(len(data) / len(rare)), rel=0.1)


def test_every_named_recipe_is_one() -> None:
    for name, named in RECIPES.items():
        recipe = Recipe.from_dict(dict(named.settings))
        assert recipe.augmentation in TRANSFORMS, name
        assert named.description
    with pytest.raises(InputError, match="did you mean 'yolov4'"):
        named_recipe("yolo4")
