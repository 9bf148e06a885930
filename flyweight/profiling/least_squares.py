"""Least squares with coefficients that cannot be negative: no amount of work takes time away."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# E equations, U unknowns

TOLERANCE = 1e-10


def nonnegative_least_squares(
    A: npt.NDArray[np.float64], b: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """`x [U] >= 0` for which `A [E, U] @ x` comes closest to `b [E]`.

    The active set method of Lawson & Hanson, Solving Least Squares Problems (1974), chapter 23.
    """
    unknowns = A.shape[1]
    x = np.zeros(unknowns)
    free = np.zeros(unknowns, dtype=bool)
    for _ in range(3 * unknowns):
        gradient = np.where(free, -np.inf, A.T @ (b - A @ x))
        entering = int(gradient.argmax())
        if gradient[entering] <= TOLERANCE * len(b):
            break
        free[entering] = True
        while True:
            trial = np.zeros(unknowns)
            trial[free] = np.linalg.lstsq(A[:, free], b, rcond=None)[0]
            leaving = free & (trial <= 0)
            if not leaving.any():
                break
            # as far towards the trial as all stay non-negative
            step = (x[leaving] / np.maximum(x[leaving] - trial[leaving], 1e-300)).min()
            x += step * (trial - x)
            free &= x > TOLERANCE * x.max(initial=0.0)
            x[~free] = 0.0
        x = trial
    return x
