from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyweight.core.errors import InputError
from flyweight.data.class_balance import RepeatFactorOrder, class_frequencies, repeat_factors
from flyweight.data.records import DetectionDataset, Record


def dataset_of(*labels: list[int], crowds: tuple[int, ...] = ()) -> DetectionDataset:
    """Images with objects of these classes, of three; those of `crowds` are crowds."""
    records = tuple(
        Record(
            number,
            Path(f"{number}.jpg"),
            (10, 10),
            np.zeros((len(row), 4), np.float32),
            np.array(row, dtype=np.int64),
            np.full(len(row), number in crowds),
            np.zeros(len(row), bool),
        )
        for number, row in enumerate(labels)
    )
    return DetectionDataset(records, ("a", "b", "c"), Path("root"), "train", "coco")


def test_factors_by_hand() -> None:
    """a is on 8 of 8 images, b on 2, c on none: r(b) = sqrt(0.5 / 0.25) = sqrt(2)."""
    dataset = dataset_of([0, 0, 1], [0, 1, 1], *([0] for _ in range(6)))
    assert class_frequencies(dataset).tolist() == [1, 0.25, 0]
    expected = [2**0.5, 2**0.5, 1, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(repeat_factors(dataset, 0.5), expected)
    np.testing.assert_array_equal(repeat_factors(dataset, 0.25), np.ones(8))


def test_images_without_objects_and_crowds_come_once() -> None:
    dataset = dataset_of([0], [], [1], *([0] for _ in range(5)), crowds=(2,))
    assert class_frequencies(dataset).tolist() == [6 / 8, 0, 0]
    np.testing.assert_allclose(repeat_factors(dataset, 1.0)[[1, 2]], 1)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_that_is_no_share(threshold: float) -> None:
    with pytest.raises(InputError, match="threshold"):
        repeat_factors(dataset_of([0]), threshold)


@given(st.lists(st.floats(1, 4), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_every_epoch_is_as_long_and_every_image_is_in_it(factors: list[float], seed: int) -> None:
    array = np.array(factors)
    order = RepeatFactorOrder(array)
    drawn = order(np.random.default_rng(seed))
    assert array.sum() - 1e-6 <= len(order) < array.sum() + 1
    assert len(drawn) == len(order)
    counts = np.bincount(drawn, minlength=len(array))
    scaled = array * len(order) / array.sum()
    assert (counts >= np.floor(array)).all()
    assert (counts <= np.ceil(scaled + 1e-9)).all()


def test_an_image_comes_its_factor_times_on_average() -> None:
    factors = np.array([1.0, 1.25, 1.5, 2.75, 1.0, 3.5])  # together 11
    order = RepeatFactorOrder(factors)
    rng = np.random.default_rng(0)
    epochs = 4000
    counts = sum(np.bincount(order(rng), minlength=6) for _ in range(epochs))
    # The standard deviation of a rounded factor is 0.5 at most, that of the mean 0.008.
    np.testing.assert_allclose(np.asarray(counts) / epochs, factors, atol=0.035)


def test_the_order_is_shuffled_and_follows_from_the_generator() -> None:
    order = RepeatFactorOrder(np.full(50, 1.5))
    first, again, other = (order(np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    # Repetitions do not stand beside each other.
    assert (first[1:] == first[:-1]).mean() < 0.2
