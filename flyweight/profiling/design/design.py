"""From a data set and a budget to detectors that are worth training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.data.default_boxes import relative_boxes
from flyweight.data.records import DetectionDataset
from flyweight.models.detectors.config import Config
from flyweight.models.detectors.preset_file import write_preset
from flyweight.models.detectors.zoo import preset_of
from flyweight.profiling.advice.advice import price_of
from flyweight.profiling.advice.anchors import with_fitted_anchors
from flyweight.profiling.config_cost import cost_of
from flyweight.profiling.design.budget import Budget
from flyweight.profiling.design.capacity import capacity
from flyweight.profiling.design.search import Designed, Evaluate, front_of, recommended, search
from flyweight.profiling.design.space import Candidate, Space, space_of
from flyweight.profiling.latency_model import LatencyModel


@dataclass(frozen=True)
class Design:
    """What a search has found.

    Attributes:
        head: the kind of detector.
        budget: what it was to cost.
        tried: all candidates, in the order in which they were.
        front: those that no other beats in both price and capacity, from the cheapest on.
        recommended: what to train, the most capacity first; their configs have anchors that are
            fitted to the data.
        object_sides: √(w·h) `[N]` of the data's objects, relative to the picture.
    """

    head: str
    budget: Budget
    tried: list[Designed]
    front: list[Designed]
    recommended: list[Designed]
    object_sides: npt.NDArray[np.float64]


def design(
    dataset: DetectionDataset,
    budget: Budget,
    *,
    head: str = "ssdlite",
    latency: LatencyModel | None = None,
    trials: int = 300,
    count: int = 5,
    seed: int = 0,
    space: Space | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Design:
    """Search the detectors of one kind for those of the most capacity within a budget.

    Args:
        dataset: whose objects are to be found.
        head: a key of `flyweight.profiling.design.space.HEADS`.
        latency: predicts milliseconds; a budget in those needs it.
        trials: candidates to trace, about half a second each.
        count: detectors to recommend.
        seed: the same one gives the same detectors.
        space: in place of the head's own.

    Raises:
        InputError: the budget has no device to be measured by, or nothing fits into it.
    """
    chosen = space_of(head) if space is None else space
    boxes_xyxy, _ = relative_boxes(dataset)
    sides = np.sqrt((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1))
    evaluate = evaluator(
        chosen, budget, num_classes=len(dataset.class_names), object_sides=sides, latency=latency
    )
    tried = search(
        chosen,
        evaluate,
        limit=budget.limit,
        trials=trials,
        count=count,
        seed=seed,
        progress=progress,
    )
    best = recommended(tried, budget.limit, count=count)
    if not best:
        least = min((each.spent for each in tried), default=float("nan"))
        raise InputError(
            f"no detector with the head {head} fits into {budget.shown(budget.limit)}: the "
            f"cheapest of {len(tried)} takes {budget.shown(least)}",
            where="--budget",
            fix="give more, or another head",
        )
    fitted = [_with_anchors(each, dataset) for each in best]
    return Design(head, budget, tried, front_of(tried), fitted, sides)


def evaluator(
    space: Space,
    budget: Budget,
    *,
    num_classes: int,
    object_sides: npt.NDArray[np.float64],
    latency: LatencyModel | None = None,
) -> Evaluate:
    """What finds the price and the capacity of a candidate.

    Args:
        object_sides: √(w·h) `[N]` relative to the picture.
    """

    def evaluate(candidate: Candidate) -> Designed | None:
        config = space.build(candidate, num_classes)
        try:
            cost = cost_of(config)
        except InputError:  # too small an input for so many levels, too narrow a layer
            return None
        price = price_of(cost, latency)
        able = capacity(cost, candidate.backbone, object_sides * candidate.size)
        return Designed(candidate, config, price, budget.spent(price), able)

    return evaluate


def save_presets(found: Design, folder: Path) -> list[Path]:
    """Write a preset file for each recommended detector; returns their paths.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    paths = []
    for place, each in enumerate(found.recommended, start=1):
        path = folder / f"{place}_{each.candidate.backbone}.yaml"
        about = (
            f"Designed for {found.budget.shown(found.budget.limit)}: takes "
            f"{found.budget.shown(each.spent)} (predicted), {each.price.macs / 1e6:,.0f} MMACs, "
            f"{each.price.params / 1e6:.2f} M parameters.\n"
            f"Capacity {each.capacity.value:.3f} is a proxy, no accuracy: train it to know.\n"
            f"flyweight train {path.name} --data DATA --out RUN"
        )
        write_preset(preset_of(each.config), path, about=about)
        paths.append(path)
    return paths


def _with_anchors(found: Designed, dataset: DetectionDataset) -> Designed:
    config: Config = with_fitted_anchors(found.config, dataset)
    return Designed(found.candidate, config, found.price, found.spent, found.capacity)
