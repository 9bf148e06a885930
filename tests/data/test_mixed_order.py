from __future__ import annotations

import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.data.class_balance import RepeatFactorOrder
from flyweight.data.mixed_order import MixedOrder


def epochs(order: MixedOrder, count: int) -> list[np.ndarray]:
    return [order(np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize(
    ("labelled", "extra", "ratio"), [(20, 100, 1), (33, 70, 0.5), (8, 50, 3.5)]
)
def test_every_labelled_one_once_and_its_share_of_others(
    labelled: int, extra: int, ratio: float
) -> None:
    order = MixedOrder(labelled, extra, ratio)
    seen = set()
    for places in epochs(order, 40):
        assert len(places) == len(order) == labelled + round(ratio * labelled)
        own, others = places[places < labelled], places[places >= labelled]
        assert sorted(own) == list(range(labelled))
        assert len(set(others)) == len(others)
        assert others.max() < labelled + extra
        seen |= set(others.tolist())
    assert len(seen) == extra


@pytest.mark.parametrize("ratio", [0.3, 1, 2.7])
@pytest.mark.parametrize("batch", [4, 8, 16])
def test_every_batch_has_its_share(ratio: float, batch: int) -> None:
    order = MixedOrder(200, 1000, ratio)
    wanted = batch * round(ratio * 200) / len(order)
    for places in epochs(order, 10):
        for start in range(0, len(places) - batch + 1, batch):
            others = int((places[start : start + batch] >= 200).sum())
            assert abs(others - wanted) <= 1


def test_few_others_come_alike_often() -> None:
    for places in epochs(MixedOrder(20, 7, 1.0), 10):
        counts = np.bincount(places[places >= 20] - 20, minlength=7)
        assert counts.sum() == 20
        assert counts.max() - counts.min() <= 1


def test_the_labelled_ones_may_have_an_order_of_their_own() -> None:
    balanced = RepeatFactorOrder(np.array([1.0, 2.0, 1.0]))
    order = MixedOrder(3, 10, 1.0, order=balanced, length=len(balanced))
    places = order(np.random.default_rng(0))
    assert np.bincount(places[places < 3]).tolist() == [1, 2, 1]
    assert (places >= 3).sum() == 4


def test_a_seed_is_an_epoch() -> None:
    order = MixedOrder(20, 50, 1.0)
    first, again, other = (order(np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("ratio", [0, -1, 0.001, float("nan")])
def test_a_ratio_that_mixes_nothing(ratio: float) -> None:
    with pytest.raises(InputError, match="ratio"):
        MixedOrder(20, 50, ratio)
