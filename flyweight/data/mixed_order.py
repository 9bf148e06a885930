"""Two data sets in one epoch: labelled pictures, and between them a share of others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError

# N pictures of an epoch

Places = npt.NDArray[np.int64]


class MixedOrder:
    """The pictures of an epoch: the labelled ones as ever, and `ratio` others for each of them.

    Others are spread evenly, so that every batch has its share of them, to within one picture. An
    epoch draws them without repetition, anew each time; where it needs more than there are, each
    comes as often as the others, to within once.

    Args:
        labelled: how many labelled pictures there are: the places 0, 1, ...
        extra: how many others: the places after these.
        ratio: others for each labelled picture.
        order: of the labelled ones in an epoch of `length`, in place of a plain shuffle.
        length: of `order`, `labelled` by default.

    Raises:
        InputError: the ratio is not above 0, or so small that no other picture would come.
    """

    def __init__(
        self,
        labelled: int,
        extra: int,
        ratio: float,
        *,
        order: Callable[[np.random.Generator], Places] | None = None,
        length: int | None = None,
    ) -> None:
        self._labelled = labelled
        self._extra = extra
        self._order = order
        own = labelled if length is None else length
        if not ratio > 0 or round(ratio * own) < 1:
            raise InputError(
                f"a ratio of {ratio} mixes in no pictures at all",
                where="--ratio",
                fix="give how many pictures come for each labelled one, such as 1",
            )
        self._others = round(ratio * own)
        self._length = own + self._others

    def __len__(self) -> int:
        return self._length

    def __call__(self, rng: np.random.Generator) -> Places:
        """Places of the pictures of one epoch, `[len(self)]`."""
        own = rng.permutation(self._labelled) if self._order is None else self._order(rng)
        rounds = -(-self._others // self._extra)
        drawn = np.concatenate([rng.permutation(self._extra) for _ in range(rounds)])
        others = self._labelled + drawn[: self._others]
        # how far through the epoch each one comes, all alike: the k-th of n at (k + u) / n
        turn = [(np.arange(len(part)) + rng.random()) / len(part) for part in (own, others)]
        mixed = np.concatenate([own, others])
        return np.asarray(mixed[np.argsort(np.concatenate(turn), kind="stable")], dtype=np.int64)
