"""The search: regularised evolution under many limits, then a climb with each good backbone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from flyweight.models.detectors.config import Config
from flyweight.profiling.advice.advice import Price
from flyweight.profiling.design.capacity import Capacity
from flyweight.profiling.design.pareto import pareto_front
from flyweight.profiling.design.space import Candidate, Space

# Real et al. 2019, https://arxiv.org/abs/1802.01548, section 3: the oldest dies, and the best of a
# sample has a child. There 100 and 25 of thousands of trials; here of hundreds.
POPULATION, TOURNAMENT = 24, 6
# Of the trials, the random ones to start with, and those that are spent on climbing.
START_SHARE, CLIMB_SHARE = 0.25, 0.5
# Parents are chosen under a limit between this share of the budget and all of it, so that the front
# is found over its length.
LOWEST_LIMIT = 0.25
# Candidates that are known already, or known to be too dear, cost no trial, but some patience.
PATIENCE = 50


@dataclass(frozen=True)
class Designed:
    """A candidate with what is known of it.

    Attributes:
        spent: of the budget, in its unit.
    """

    candidate: Candidate
    config: Config
    price: Price
    spent: float
    capacity: Capacity


# From a candidate to what is known of it; None where no network can be made of it.
Evaluate = Callable[[Candidate], Designed | None]


class _Trials:
    """Evaluations so far: each candidate once, and none that is known to be far too dear."""

    def __init__(self, space: Space, evaluate: Evaluate, *, limit: float, most: int) -> None:
        self.space, self.evaluate = space, evaluate
        self.limit, self.most = limit, most
        self.known: dict[Candidate, Designed | None] = {}
        self.too_dear: list[Candidate] = []

    @property
    def left(self) -> int:
        return self.most - len(self.known)

    def __call__(self, candidate: Candidate) -> Designed | None:
        if candidate in self.known:
            return self.known[candidate]
        if self.left <= 0 or any(self.space.cheaper(each, candidate) for each in self.too_dear):
            return None
        found = self.known[candidate] = self.evaluate(candidate)
        if found is not None and found.spent > self.limit:
            self.too_dear.append(candidate)
        return found

    def found(self) -> list[Designed]:
        return [each for each in self.known.values() if each is not None]


def search(
    space: Space,
    evaluate: Evaluate,
    *,
    limit: float,
    trials: int = 300,
    count: int = 5,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Designed]:
    """Candidates worth knowing, in the order in which they were tried; all, where they are few.

    Args:
        limit: the budget, in the unit of `Designed.spent`.
        trials: candidates to evaluate, at most.
        count: backbones that are worth a climb, each from the best of it.
        seed: the same one gives the same candidates.
        progress: is told how many trials are done, of how many.
    """
    if len(space) <= trials:
        found = []
        for number, candidate in enumerate(space, start=1):
            found.append(evaluate(candidate))
            progress(number, len(space))
        return [each for each in found if each is not None]
    rng = np.random.default_rng(seed)
    tried = _Trials(space, evaluate, limit=limit, most=trials)
    population: deque[Designed] = deque(maxlen=POPULATION)
    climb = int(CLIMB_SHARE * trials)
    idle = 0
    while tried.left > climb and idle < PATIENCE:
        before = tried.left
        starting = len(tried.known) < START_SHARE * trials or not population
        candidate = space.sample(rng) if starting else _child(space, population, limit, rng)
        designed = tried(candidate)
        if designed is not None and tried.left < before:
            population.append(designed)
        idle = 0 if tried.left < before else idle + 1
        progress(len(tried.known), trials)
    _climb(space, tried, count, progress)
    return tried.found()


def _child(
    space: Space, population: Iterable[Designed], limit: float, rng: np.random.Generator
) -> Candidate:
    """A neighbour of the best of a few, under a limit drawn anew each time."""
    members = list(population)
    count = min(TOURNAMENT, len(members))
    chosen = [members[each] for each in rng.choice(len(members), count, replace=False)]
    parent = best_within(chosen, limit * rng.uniform(LOWEST_LIMIT, 1.0))
    if parent is None:
        parent = min(chosen, key=lambda each: each.spent)
    options = list(space.neighbours(parent.candidate))
    return options[rng.integers(len(options))]


def _climb(space: Space, tried: _Trials, count: int, progress: Callable[[int, int], None]) -> None:
    """From the best of each of the best backbones to the first better neighbour, while there is
    one; no backbone may take more than its share of the trials that are left."""
    starts = recommended(tried.found(), tried.limit, count=count)
    for place, best in enumerate(starts):
        last = tried.left - tried.left // (len(starts) - place)
        steps = iter(_steps(space, best.candidate))
        while tried.left > last and (step := next(steps, None)) is not None:
            found = tried(step)
            progress(len(tried.known), tried.most)
            if found is not None and best_within((best, found), tried.limit) is found:
                best, steps = found, iter(_steps(space, step))


def _steps(space: Space, candidate: Candidate) -> Iterator[Candidate]:
    """Neighbours with the same backbone: first those that cost more, then those that take from one
    field what they give to another, then those that cost less."""
    dearer = list(space.along(candidate, 1))
    yield from dearer
    for each in dearer:
        yield from (step for step in space.along(each, -1) if step != candidate)
    yield from space.along(candidate, -1)


def best_within(designed: Iterable[Designed], limit: float) -> Designed | None:
    """The one of the most capacity, and of those the cheapest, that spends at most `limit`."""
    affordable = [each for each in designed if each.spent <= limit]
    return max(affordable, key=lambda each: (each.capacity.value, -each.spent), default=None)


def front_of(designed: list[Designed]) -> list[Designed]:
    """Those that no other beats in both price and capacity, from the cheapest on."""
    if not designed:
        return []
    chosen = pareto_front(
        [each.spent for each in designed], [each.capacity.value for each in designed]
    )
    return [designed[index] for index in chosen]


def recommended(designed: list[Designed], limit: float, *, count: int = 5) -> list[Designed]:
    """What to train: the best of each backbone within the budget, the most capacity first.

    Of different backbones, because between those the proxy knows least.
    """
    backbones = dict.fromkeys(each.candidate.backbone for each in designed)
    best = [
        best_within((each for each in designed if each.candidate.backbone == name), limit)
        for name in backbones
    ]
    found = [each for each in best if each is not None]
    return sorted(found, key=lambda each: (-each.capacity.value, each.spent))[:count]
