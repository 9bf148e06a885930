from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flyweight.training.batches import EpochBatches
from flyweight.training.classification.balanced_order import BalancedOrder


@settings(max_examples=50)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=80), seed=st.integers(0, 5))
def test_classes_come_equally_often_and_so_do_the_images_of_each(
    labels: list[int], seed: int
) -> None:
    truth = np.array(labels)
    order = BalancedOrder(truth)
    drawn = order(np.random.default_rng(seed))
    assert len(drawn) == len(order) == len(labels)
    times = np.bincount(drawn, minlength=len(labels))
    of_class = [times[truth == label] for label in np.unique(truth)]
    assert np.ptp([each.sum() for each in of_class]) <= 1
    assert all(np.ptp(each) <= 1 for each in of_class)


def test_a_large_class_shows_all_its_images_in_time() -> None:
    """90 of 100 are of the first class; an epoch has 50 of it, in its own order."""
    order = BalancedOrder(np.array([0] * 90 + [1] * 10))
    epochs = [order(np.random.default_rng(epoch)) for epoch in range(8)]
    assert set(np.concatenate(epochs).tolist()) == set(range(100))
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_repeated_image_is_drawn_anew() -> None:
    """Its draws differ in their repeat, from which the augmentation follows."""
    order = BalancedOrder(np.array([0] * 10 + [1] * 2))
    batches = EpochBatches(12, batch_size=4, seed=0, order=order)
    draws = [draw for batch in batches for draw in batch]
    assert len(draws) == len(set(draws)) == 12
    assert sorted(draw.repeat for draw in draws if draw.record == 11) == [0, 1, 2]
