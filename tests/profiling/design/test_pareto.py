"""The Pareto front against brute force."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flyweight.profiling.design.pareto import pareto_front

# Few values, so that ties are frequent.
FIGURE = st.integers(0, 5)


def by_brute_force(points: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """Points that no other beats."""
    return {
        (price, value)
        for price, value in points
        if not any(p <= price and v >= value and (p, v) != (price, value) for p, v in points)
    }


@given(st.lists(st.tuples(FIGURE, FIGURE)))
def test_front_is_what_no_point_beats(points: list[tuple[int, int]]) -> None:
    front = pareto_front([price for price, _ in points], [value for _, value in points])
    chosen = [points[index] for index in front]
    assert set(chosen) == by_brute_force(points)
    assert len(set(chosen)) == len(chosen)
    assert chosen == sorted(chosen)
    # of points that are alike the first one
    assert all(points.index(points[index]) == index for index in front)


def test_many_points_at_once() -> None:
    rng = np.random.default_rng(0)
    prices, values = rng.random(2000), rng.random(2000)
    front = pareto_front(prices, values)
    assert (np.diff(prices[front]) > 0).all()
    assert (np.diff(values[front]) > 0).all()
    beaten = np.setdiff1d(np.arange(2000), front)
    better = (prices[front, None] <= prices[beaten]) & (values[front, None] >= values[beaten])
    assert better.any(axis=0).all()
