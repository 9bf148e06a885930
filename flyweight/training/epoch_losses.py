"""The losses of an epoch: summed on the device, looked at as seldom as it allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class StepLoss(NamedTuple):
    """The sum of one step's losses.

    Attributes:
        mean: over all processes.
        own: in this process.
    """

    mean: float
    own: float


class EpochLosses:
    """Sums of an epoch's losses by name, and the total of each step since the last look.

    Reading a number makes a GPU wait, so nothing is read before `look`.

    Attributes:
        sums: scalars on the device; means over processes, summed over the steps.
        steps: how many steps are in them.
    """

    def __init__(self, sums: Mapping[str, Tensor] | None = None, *, steps: int = 0) -> None:
        self.sums = dict(sums or {})
        self.steps = steps
        self._unseen: list[Tensor] = []

    def add(self, mean: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
        """Add one step's losses: their means over all processes, and this process's own."""
        for name, loss in mean.items():
            self.sums[name] = self.sums[name] + loss if name in self.sums else loss
        self.steps += 1
        totals = [torch.stack(list(each.values())).sum() for each in (mean, own)]
        self._unseen.append(torch.stack(totals))

    def look(self) -> list[StepLoss]:
        """The steps since the last look, the latest last."""
        if not self._unseen:
            return []
        seen = [StepLoss(*pair) for pair in torch.stack(self._unseen).tolist()]
        self._unseen.clear()
        return seen

    def means(self) -> dict[str, float]:
        """Mean of each loss over the steps."""
        return {name: float(total) / self.steps for name, total in self.sums.items()}
