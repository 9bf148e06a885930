"""Which convolutions stay in float, so that int8 costs no more AP than was allowed.

A knapsack: each convolution that goes back to float takes away some of the error and gives away
some of the speed. Errors of single layers add up only roughly, and AP is a step function of them,
so what counts is measured: candidates are ranked by error removed for MACs given back, the shortest
head of that list that holds the limit is looked for by doubling and halving, and then each member,
the most expensive first, has to show that it is needed.

MACs stand for time. On the processors that int8 is for, a convolution's gain in milliseconds goes
with them; what a change between the precisions costs they do not know, so the chosen file is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_TRIALS = 24


@dataclass(frozen=True)
class Candidate:
    """A convolution that may stay in float.

    Attributes:
        node: its name.
        harm: what int8 does to the network there; any measure of error, not negative.
        cost: what int8 would save there: MACs.
    """

    node: str
    harm: float
    cost: float


@dataclass(frozen=True)
class Trial:
    """AP points lost with these convolutions in float."""

    kept: tuple[str, ...]
    loss: float


@dataclass(frozen=True)
class Choice:
    """What was chosen and how.

    Attributes:
        kept: the convolutions that stay in float.
        loss: AP points, as measured while choosing.
        within: whether the limit holds.
        trials: all that was measured, in order.
    """

    kept: tuple[str, ...]
    loss: float
    within: bool
    trials: tuple[Trial, ...]


def choose_precision(
    rank: Callable[[], Sequence[Candidate]],
    loss_of: Callable[[tuple[str, ...]], float],
    *,
    max_loss: float,
    max_trials: int = MAX_TRIALS,
) -> Choice:
    """The cheapest set found of convolutions that have to stay in float.

    Args:
        rank: gives the candidates; only called where int8 everywhere loses too much.
        loss_of: AP points lost with the given ones in float: measured on images that calibration
            has not used.
        max_loss: AP points.
        max_trials: calls of `loss_of`; the best so far is taken when they are used up.
    """
    search = _Search(loss_of, max_loss, max_trials)
    if search.holds(()):
        return search.choice()
    candidates = sorted(rank(), key=lambda each: each.harm**2 / max(each.cost, 1), reverse=True)
    names = [each.node for each in candidates]
    low, high = 0, 1
    while not search.holds(tuple(names[:high])):
        if high >= len(names) or search.exhausted:
            return search.choice()
        low, high = high, min(2 * high, len(names))
    while high - low > 1:
        middle = (low + high) // 2
        if search.holds(tuple(names[:middle])):
            high = middle
        else:
            low = middle
    kept = names[:high]
    for each in sorted(candidates[:high], key=lambda each: each.cost, reverse=True):
        fewer = [name for name in kept if name != each.node]
        if search.holds(tuple(fewer)):
            kept = fewer
    return search.choice(tuple(kept))


class _Search:
    """Measures each set once, and no more sets than allowed."""

    def __init__(
        self, loss_of: Callable[[tuple[str, ...]], float], max_loss: float, max_trials: int
    ) -> None:
        self.loss_of = loss_of
        self.max_loss = max_loss
        self.max_trials = max_trials
        self.trials: dict[tuple[str, ...], float] = {}

    @property
    def exhausted(self) -> bool:
        return len(self.trials) >= self.max_trials

    def holds(self, kept: tuple[str, ...]) -> bool:
        """Whether the limit does; False, unmeasured, once the trials are used up."""
        if kept not in self.trials:
            if self.exhausted:
                return False
            self.trials[kept] = self.loss_of(kept)
        return self.trials[kept] <= self.max_loss

    def choice(self, kept: tuple[str, ...] | None = None) -> Choice:
        """Of `kept`, or of the least loss."""
        if kept is None:
            kept = min(self.trials, key=lambda each: (self.trials[each], len(each)))
        loss = self.trials[kept]
        return Choice(
            kept, loss, loss <= self.max_loss, tuple(Trial(*each) for each in self.trials.items())
        )
