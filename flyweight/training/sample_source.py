"""From a recipe to the samples of a run: augmentation, cache, the order of an epoch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flyweight.data.class_balance import RepeatFactorOrder, repeat_factors
from flyweight.data.image_cache import CachedReader, DiskStore, MemoryStore
from flyweight.data.mixed_order import MixedOrder
from flyweight.data.records import concatenate
from flyweight.training.batches import ClosingEpochs, EpochOrder, TrainSamples
from flyweight.training.recipe import Recipe
from flyweight.transforms.presets import build_transform

if TYPE_CHECKING:
    from flyweight.core.preprocessing import Preprocessing
    from flyweight.data.records import DetectionDataset

IN_MEMORY = "memory"


def make_samples(
    train_set: DetectionDataset, preprocessing: Preprocessing, recipe: Recipe, *, workers: int
) -> TrainSamples:
    """The augmented samples of a run whose images are read by so many `workers`.

    Raises:
        InputError: there is no augmentation of that name, or the cache's folder cannot be used.
    """
    transform = build_transform(recipe.augmentation, preprocessing)
    if recipe.cache:
        transform = replace(transform, read=_cached_reader(recipe, workers))
    closing = None
    if recipe.close_epochs:
        first = recipe.epochs - recipe.close_epochs
        closing = ClosingEpochs(transform, transform.alone(), first=first)
    return TrainSamples(train_set, transform, seed=recipe.seed, transform_of_epoch=closing)


def epoch_order(
    train_set: DetectionDataset, recipe: Recipe, *, extra: int = 0
) -> EpochOrder | None:
    """Which pictures an epoch shows; None for each of them once.

    Args:
        train_set: the labelled pictures.
        extra: how many pictures of a second data set come after them.
    """
    balanced = None
    if recipe.balance:
        balanced = RepeatFactorOrder(repeat_factors(train_set, recipe.balance))
    if not extra:
        return balanced
    length = None if balanced is None else len(balanced)
    return MixedOrder(len(train_set), extra, recipe.ratio, order=balanced, length=length)


def mixed(train_set: DetectionDataset, extra: DetectionDataset) -> DetectionDataset:
    """The pictures of both, those of `extra` after the labelled ones; their classes are equal."""
    return concatenate([train_set, replace(extra, split="extra")], train_set.split)


def _cached_reader(recipe: Recipe, workers: int) -> CachedReader:
    size = int(recipe.cache_gb * 1e9)
    if recipe.cache != IN_MEMORY:
        return CachedReader(DiskStore(recipe.cache, max_bytes=size))
    # each process keeps what it reads itself
    return CachedReader(MemoryStore(size // max(1, workers)))
