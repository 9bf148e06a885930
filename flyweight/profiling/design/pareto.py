"""Which candidates are not beaten in both price and value."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def pareto_front(prices: npt.ArrayLike, values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Indices of the points that no other beats, from the cheapest on.

    A point is beaten by one that costs at most as much and is worth at least as much, one of both
    strictly; of points that are alike the first stays.

    Args:
        prices, values: `[N]` each; low prices and high values are good.
    """
    cost, worth = np.asarray(prices, float), np.asarray(values, float)
    order = np.lexsort((np.arange(len(cost)), -worth, cost))
    best_before = np.concatenate(([-np.inf], np.maximum.accumulate(worth[order])[:-1]))
    return order[worth[order] > best_before].astype(np.int64)
