"""The search: within the budget, the same each time, and the known optimum."""

from __future__ import annotations

from typing import Any, cast

import pytest

from flyweight.models.detectors.config import Config
from flyweight.profiling.advice.advice import Price
from flyweight.profiling.design.capacity import Capacity
from flyweight.profiling.design.search import (
    Designed,
    best_within,
    front_of,
    recommended,
    search,
)
from flyweight.profiling.design.space import Candidate, Space

NO_CONFIG = cast(Config, None)
QUALITY = {"plain": 0.5, "good": 0.6, "best": 0.62}
SPEED = {"plain": 1.0, "good": 1.3, "best": 2.5}


def space(widths: int = 12, sizes: int = 12) -> Space:
    axes: dict[str, tuple[Any, ...]] = {
        "backbone": tuple(QUALITY),
        "width": tuple(0.25 * (each + 1) for each in range(widths)),
        "size": tuple(32 * (each + 1) for each in range(sizes)),
        "neck_width": (0.5, 1.0),
        "head_width": (1.0,),
        "levels": (3, 4, 5),
    }
    return Space(axes, lambda candidate, classes: NO_CONFIG)


class Landscape:
    """Prices and values by formula; counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Candidate] = []

    def __call__(self, each: Candidate) -> Designed | None:
        self.asked.append(each)
        if each.size < 32 * each.levels:
            return None  # too small an input for so many levels
        price = SPEED[each.backbone] * each.width**2 * (each.size / 100) ** 2
        price *= 1 + 0.1 * each.neck_width + 0.05 * each.levels
        value = QUALITY[each.backbone] + 0.04 * each.width + each.size / 4000
        value += 0.01 * each.neck_width + 0.002 * each.levels - 0.1 * (each.size > 300)
        return Designed(each, NO_CONFIG, Price(0, 0, 0), price, Capacity(value, 1.0, 1.0))


def optimum(where: Space, limit: float) -> Designed:
    landscape = Landscape()
    everything = [found for each in where if (found := landscape(each)) is not None]
    best = best_within(everything, limit)
    assert best is not None
    return best


def test_a_small_space_is_looked_at_whole() -> None:
    small, landscape = space(2, 4), Landscape()
    found = search(small, landscape, limit=4.0, trials=len(small))
    assert landscape.asked == list(small)
    assert best_within(found, 4.0) == optimum(small, 4.0)


@pytest.mark.parametrize("limit", [2.0, 8.0])
def test_of_a_large_space_it_finds_nearly_the_best(limit: float) -> None:
    large, landscape = space(), Landscape()
    found = best_within(search(large, landscape, limit=limit, trials=250), limit)
    assert len(large) > 2500
    assert len(landscape.asked) <= 250
    assert len(set(landscape.asked)) == len(landscape.asked)
    assert found is not None
    assert found.spent <= limit
    assert found.capacity.value > optimum(large, limit).capacity.value - 0.015


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_each_backbone_it_finds_nearly_the_best(seed: int) -> None:
    """None is recommended at a fraction of what the budget would let it be."""
    large, limit = space(), 4.0
    found = search(large, Landscape(), limit=limit, trials=250, seed=seed)
    for each in recommended(found, limit):
        own = Space({**large.axes, "backbone": (each.candidate.backbone,)}, large.build)
        assert each.capacity.value > optimum(own, limit).capacity.value - 0.005


def test_the_same_seed_gives_the_same_candidates() -> None:
    runs = [[each.candidate for each in run(seed)] for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def run(seed: int) -> list[Designed]:
    return search(space(), Landscape(), limit=4.0, trials=60, seed=seed)


def test_what_is_dearer_than_too_dear_is_not_tried() -> None:
    large, landscape, limit = space(), Landscape(), 0.5
    search(large, landscape, limit=limit, trials=200)
    dear: list[Candidate] = []
    for each in landscape.asked:
        assert not any(large.cheaper(other, each) for other in dear)
        known = Landscape()(each)
        if known is not None and known.spent > limit:
            dear.append(each)
    assert dear


def test_neighbours_differ_in_one_field() -> None:
    large = space()
    here = Candidate("good", 0.5, 64, 0.5, 1.0, 3)
    around = list(large.neighbours(here))
    assert len(around) == 2 + 2 + 2 + 1 + 0 + 1
    for each in around:
        assert (
            sum(a != b for a, b in zip(vars(each).values(), vars(here).values(), strict=True)) == 1
        )


def test_recommended_are_the_best_of_each_backbone() -> None:
    found = [each for each in map(Landscape(), space(3, 5)) if each is not None]
    chosen = recommended(found, 6.0, count=2)
    values = [each.capacity.value for each in chosen]
    assert len(chosen) == 2
    assert len({each.candidate.backbone for each in chosen}) == 2
    assert values == sorted(values, reverse=True)
    assert all(each.spent <= 6.0 for each in chosen)
    assert chosen[0] == best_within(found, 6.0)
    assert recommended(found, 1e-9) == []


def test_front_of_nothing_is_nothing() -> None:
    assert front_of([]) == []
    assert best_within([], 1.0) is None
