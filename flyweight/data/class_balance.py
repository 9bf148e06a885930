"""Repeat-factor sampling: pictures of rare classes come more often in an epoch."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.data.records import DetectionDataset

# N images, C classes


def class_frequencies(dataset: DetectionDataset) -> npt.NDArray[np.float64]:
    """`[C]`: the share of the images that have an object of each class (crowds left out)."""
    counts = np.zeros(len(dataset.class_names))
    for record in dataset.records:
        counts[np.unique(record.labels[~record.crowd])] += 1
    return counts / max(1, len(dataset))


def repeat_factors(dataset: DetectionDataset, threshold: float) -> npt.NDArray[np.float64]:
    """How often each image should come in an epoch, `[N]` from 1 on.

    Repeat factor sampling of Gupta et al. 2019 (LVIS, arXiv 1908.03195, appendix B.2 from version 2
    on): a class that a share f of the images shows has r = max(1, sqrt(threshold / f)); an image
    has the largest r of its classes, 1 without objects.

    Args:
        threshold: classes on a smaller share of the images are repeated; LVIS takes 0.001, data
            of a few classes want more, such as 0.3.

    Raises:
        InputError: the threshold is not from 0 to 1.
    """
    if not 0 <= threshold <= 1:
        raise InputError(
            f"the threshold of repeat factors is {threshold}",
            fix="give a share of the images, from 0 (nothing is repeated) to 1",
        )
    frequencies = class_frequencies(dataset)
    shown = frequencies > 0
    factors = np.ones(len(frequencies))
    factors[shown] = np.maximum(1, np.sqrt(threshold / frequencies[shown]))
    return np.array(
        [factors[record.labels[~record.crowd]].max(initial=1.0) for record in dataset.records]
    )


class RepeatFactorOrder:
    """The images of an epoch, each as often as its repeat factor says on average.

    A factor of 1.3 gives an image once or twice. Rounding each by itself, as LVIS does, would make
    epochs of different lengths; here all are rounded together, by systematic sampling (Madow &
    Madow 1944) along a fresh shuffle: every epoch has the same length, the sum of the factors
    rounded up, and every image comes its factor times on average (times at most one part in the
    length, for the rounding up), never less than the factor rounded down.

    Args:
        factors: `[N]`, from 1 on, of `repeat_factors`.
    """

    def __init__(self, factors: npt.NDArray[np.float64]) -> None:
        total = float(factors.sum())
        # What is left of a sum that should be whole must not become one image more.
        self._length = math.ceil(total - 1e-6)
        self._factors = factors * (self._length / total)

    def __len__(self) -> int:
        return self._length

    def __call__(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Indices of the images of one epoch, shuffled, `[len(self)]`."""
        shuffled = rng.permutation(len(self._factors))
        ends = np.cumsum(self._factors[shuffled])
        ends[-1] = self._length
        counts = np.diff(np.floor(ends + rng.random()), prepend=0).astype(np.int64)
        return rng.permutation(np.repeat(shuffled, counts))
