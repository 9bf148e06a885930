from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from flyweight.compression.mixed_precision import Candidate, choose_precision


def additive(candidates: list[Candidate]) -> dict[str, float]:
    """AP points that each layer costs in int8: its error's power."""
    return {each.node: each.harm**2 for each in candidates}


def loss_with(candidates: list[Candidate], kept: tuple[str, ...]) -> float:
    return sum(loss for node, loss in additive(candidates).items() if node not in kept)


def made_up(seed: int, count: int = 10) -> list[Candidate]:
    rng = np.random.default_rng(seed)
    harms, costs = np.sqrt(rng.lognormal(-2, 1.5, count)), rng.lognormal(0, 1, count)
    return [Candidate(f"n{i}", harms[i], 1e6 * costs[i]) for i in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_nearly_as_cheap_as_the_best_of_all_sets(seed: int) -> None:
    """Against every subset: a knapsack's greedy is off by less than its dearest item."""
    candidates = made_up(seed)
    cost = {each.node: each.cost for each in candidates}
    limit = 0.4 * loss_with(candidates, ())
    choice = choose_precision(
        lambda: candidates, lambda kept: loss_with(candidates, kept), max_loss=limit
    )
    assert choice.within
    assert choice.loss == pytest.approx(loss_with(candidates, choice.kept))
    assert choice.loss <= limit
    best = min(
        sum(cost[node] for node in kept)
        for size in range(len(candidates) + 1)
        for kept in combinations(cost, size)
        if loss_with(candidates, kept) <= limit
    )
    assert sum(cost[node] for node in choice.kept) <= best + max(cost.values())
    # Nothing that is kept could go: the limit would not hold.
    for node in choice.kept:
        fewer = tuple(each for each in choice.kept if each != node)
        assert loss_with(candidates, fewer) > limit


def test_nothing_is_ranked_where_int8_holds() -> None:
    def rank() -> list[Candidate]:
        raise AssertionError("not needed")

    choice = choose_precision(rank, lambda kept: 0.2, max_loss=0.5)
    assert (choice.kept, choice.loss, choice.within, len(choice.trials)) == ((), 0.2, True, 1)


def test_what_does_not_help_is_not_kept() -> None:
    """Ranked first, but AP does not mind it: the second alone is chosen."""
    candidates = [Candidate("noisy", 9.0, 1.0), Candidate("guilty", 1.0, 5.0)]
    choice = choose_precision(
        lambda: candidates, lambda kept: 0.1 if "guilty" in kept else 2.0, max_loss=0.5
    )
    assert choice.kept == ("guilty",)


def test_the_best_is_told_where_the_limit_cannot_hold() -> None:
    candidates = made_up(0, 4)
    choice = choose_precision(lambda: candidates, lambda kept: 3.0 - len(kept) / 10, max_loss=0.5)
    assert not choice.within
    assert len(choice.kept) == 4
    assert choice.loss == pytest.approx(2.6)


def test_no_more_trials_than_allowed() -> None:
    candidates = made_up(1, 60)
    calls: list[tuple[str, ...]] = []

    def loss_of(kept: tuple[str, ...]) -> float:
        calls.append(kept)
        return loss_with(candidates, kept)

    limit = 0.05 * loss_with(candidates, ())
    choice = choose_precision(lambda: candidates, loss_of, max_loss=limit, max_trials=9)
    assert len(calls) == len(set(calls)) <= 9
    assert choice.within
