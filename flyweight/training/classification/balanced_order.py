"""Class-aware sampling: every class as often as any other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# N images, C classes


class BalancedOrder:
    """The images of an epoch, N of them, an equal share of each class (up to one).

    Class-aware sampling (Shen et al. 2016, arXiv 1512.05830): of a large class each epoch has
    other images, those of a small one come several times, each as often as the others.

    Args:
        labels: `[N]` of the images; classes without any have no share.
    """

    def __init__(self, labels: npt.NDArray[np.int64]) -> None:
        self._length = len(labels)
        self._members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def __len__(self) -> int:
        return self._length

    def __call__(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Indices of the images of one epoch, shuffled, `[len(self)]`."""
        share = -(-self._length // len(self._members))
        drawn = [self._draw(members, share, rng) for members in self._members]
        return rng.permutation(np.stack(drawn, axis=1).ravel()[: self._length])

    @staticmethod
    def _draw(
        members: npt.NDArray[np.int64], count: int, rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """`[count]` of the `members`, all of them once before any comes again."""
        rounds = -(-count // len(members))
        return np.concatenate([rng.permutation(members) for _ in range(rounds)])[:count]
