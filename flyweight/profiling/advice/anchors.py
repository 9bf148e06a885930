"""The anchors and the strides against the objects of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from flyweight.data.anchor_recall import anchor_recall
from flyweight.data.default_boxes import fit_default_boxes, relative_boxes
from flyweight.data.records import DetectionDataset
from flyweight.models.detectors.config import Config
from flyweight.models.detectors.families import FAMILIES
from flyweight.models.ops.anchors import AnchorGrid
from flyweight.profiling.advice.advice import Advice, Price
from flyweight.profiling.advice.context import Context, changed_config, cure, listed_layers
from flyweight.profiling.advice.levels import levels_of
from flyweight.profiling.config_cost import empty_detector
from flyweight.profiling.operation import Operation

ANCHORS, SMALL = "anchors", "small_objects"
ANCHOR_SOURCE = (
    "Liu et al. 2016 (SSD), section 2.2, https://arxiv.org/abs/1512.02325: an anchor learns from "
    "objects that it overlaps by half"
)
SMALL_SOURCE = (
    "Lin et al. 2017 (FPN), section 4.2, https://arxiv.org/abs/1612.03144: small objects go to "
    "finer levels; one smaller than a cell shares it with its neighbours"
)
ENOUGH_RECALL = 0.9
MOST_SMALL = 0.1
SIZE_STEP = 32
LARGEST_SIZE = 1024
# Of an anchor's side in a config: four digits say which box it is.
DIGITS = 4


def anchors(context: Context) -> list[Advice]:
    """Objects of the data that no anchor overlaps by half."""
    if context.dataset is None or context.config is None:
        return []
    grid = anchor_grid(context.config)
    recall = recall_of(context, grid)
    if recall >= ENOUGH_RECALL:
        return []
    fitted = with_fitted_anchors(context.config, context.dataset)
    better = recall_of(context, anchor_grid(fitted))
    finding = f"no anchor overlaps {1 - recall:.0%} of the objects by half, mean of the classes"
    names = _heads(context)
    if better <= recall:
        change = "boxes fitted to the data reach no more: take a larger input or a finer level"
        zero = Price(0, 0, 0)
        return [Advice(ANCHORS, finding, change, ANCHOR_SOURCE, names, zero, serves="accuracy")]
    fields = {
        name: getattr(fitted, name)
        for name in fitted.__dataclass_fields__
        if getattr(fitted, name) != getattr(context.config, name)
    }
    offered = cure(context, lambda changed: [], fields)
    if offered is None:
        return []
    change = f"fit them to the data, which leaves {1 - better:.0%}"
    advice = Advice(ANCHORS, finding, change, ANCHOR_SOURCE, names, offered[1], fields)
    return [replace(advice, serves="accuracy")]


def small_objects(context: Context) -> list[Advice]:
    """Objects that are smaller than a cell of the finest level."""
    share = share_below_a_cell(context)
    if share <= MOST_SMALL or context.config is None:
        return []
    stride = levels_of(context)[0].stride
    finding = f"{share:.0%} of the data's objects are smaller than a cell of the finest level "
    finding += f"({stride} pixels)"
    names = _heads(context)
    height, width = context.config.size_hw
    largest = max(height, width)
    for size in range(largest + SIZE_STEP, LARGEST_SIZE + 1, SIZE_STEP):
        size_hw = (round(height * size / largest), round(width * size / largest))
        resized = changed_config(context.config, {"size_hw": size_hw})
        if share_below_a_cell(replace(context, config=resized)) > MOST_SMALL:
            continue
        offered = cure(context, _below_a_cell, {"size_hw": size_hw})
        if offered is not None:
            change = f"take an input of {size_hw[0]}×{size_hw[1]} pixels, or a finer level"
            advice = Advice(SMALL, finding, change, SMALL_SOURCE, names, offered[1], offered[0])
            return [replace(advice, serves="accuracy")]
    change = "add a finer level, or cut the pictures into tiles"
    zero = Price(0, 0, 0)
    return [Advice(SMALL, finding, change, SMALL_SOURCE, names, zero, serves="accuracy")]


def object_sides_px(context: Context) -> npt.NDArray[np.float64]:
    """√(w·h) `[N]` of the data's objects in pixels of the input."""
    if context.dataset is None or context.config is None:
        return np.zeros(0)
    boxes_xyxy, _ = relative_boxes(context.dataset)
    height, width = context.config.size_hw
    sides: npt.NDArray[np.float64] = np.sqrt(
        ((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) * (width, height)).prod(axis=1)
    )
    return sides


def share_below_a_cell(context: Context) -> float:
    """Of the data's objects those whose side is shorter than the finest level's stride, 0 to 1."""
    sides, levels = object_sides_px(context), levels_of(context)
    if not len(sides) or not levels:
        return 0.0
    return float((sides < levels[0].stride).mean())


def anchor_grid(config: Config) -> AnchorGrid:
    """The anchors of a config's detector, without its network."""
    empty: Any = empty_detector(config).model
    objective, _ = FAMILIES[config.family].interpret(config, empty)
    grid: AnchorGrid = objective.anchors  # type: ignore[attr-defined]
    return grid


def recall_of(context: Context, grid: AnchorGrid) -> float:
    """Share of a class's objects that an anchor overlaps by half, mean of the classes, 0 to 1.

    Of the classes, not of all objects: a rare class that no anchor fits is not found at all.
    """
    assert context.dataset is not None
    boxes_xyxy, labels = relative_boxes(context.dataset)
    height, width = grid.size_hw
    relative = grid.boxes_xyxy.numpy().astype(np.float64) / (width, height, width, height)
    names = context.dataset.class_names
    rows = anchor_recall(boxes_xyxy, relative, labels=labels, class_names=names).by_class
    return float(np.mean([row.recall for row in rows])) if rows else 1.0


def with_fitted_anchors(config: Config, dataset: DetectionDataset) -> Config:
    """The config with as many anchors a level, fitted to the data."""
    grid = anchor_grid(config)
    fitted = fit_default_boxes(
        dataset, grid.grids, grid.boxes_per_level, grid.size_hw, grid.sizes_wh
    )
    sizes = tuple(tuple((round(w, DIGITS), round(h, DIGITS)) for w, h in level) for level in fitted)
    changed: Config = FAMILIES[config.family].with_anchors(config, sizes)
    return changed


def _heads(context: Context) -> tuple[str, ...]:
    ends = [each for level in levels_of(context) for each in level.ends]
    return listed_layers([context.cost.operations[each] for each in ends])


def _below_a_cell(context: Context) -> Sequence[Operation]:
    if share_below_a_cell(context) <= MOST_SMALL:
        return []
    return [context.cost.operations[each] for level in levels_of(context) for each in level.ends]
