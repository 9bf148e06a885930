"""Non-negative least squares agrees with scipy's."""

from __future__ import annotations

import numpy as np
import pytest

from flyweight.profiling.least_squares import nonnegative_least_squares


def test_an_unconstrained_solution_that_is_positive_stays() -> None:
    A = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    assert nonnegative_least_squares(A, A @ [2.0, 3.0]) == pytest.approx([2.0, 3.0])


def test_a_negative_coefficient_becomes_zero() -> None:
    # best with both: x = (2, -1); with the second at zero the first is 1.2, by hand:
    # A'A = [[3, 3], [3, 5]], A'b = [3, 1]; x1 = 3 / 3 = 1
    A = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    assert nonnegative_least_squares(A, A @ [2.0, -1.0]) == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize("seed", range(8))
def test_scipy_finds_the_same(seed: int) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    random = np.random.default_rng(seed)
    A = random.normal(size=(60, 25)) ** (1 + seed % 2)
    b = A @ random.normal(size=25) + random.normal(size=60)
    expected, _ = optimize.nnls(A, b)
    assert nonnegative_least_squares(A, b) == pytest.approx(expected, abs=1e-8)
    assert (expected == 0).any()
