"""Exponential moving average of the weights: what is evaluated and saved."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def ramped_decay(updates: int, decay: float) -> float:
    """The decay after `updates` updates: low at first, so that the random start is forgotten.

    TensorFlow's `ExponentialMovingAverage(num_updates)`: min(decay, (1 + n) / (10 + n)).
    """
    return min(decay, (1 + updates) / (10 + updates))


class MovingAverage:
    """A copy of `model` whose weights follow it slowly.

    Buffers (BatchNorm's mean and variance) are averaged like the weights: statistics of the raw
    weights would not fit the averaged ones. Integer buffers (counters) are copied.

    Args:
        decay: share of the old average that an update keeps, once the ramp is over; 0 copies.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.averaged = AveragedModel(model, multi_avg_fn=self._blend, use_buffers=True)
        self.averaged.requires_grad_(False)
        self.averaged.eval()

    @property
    def model(self) -> nn.Module:
        """The averaged copy, in evaluation mode."""
        return self.averaged.module

    def update(self, model: nn.Module) -> None:
        """Take the weights of `model` after an optimiser step into the average."""
        self.updates += 1
        self.averaged.update_parameters(model)

    @torch.no_grad()
    def _blend(self, averaged: Sequence[Tensor], current: Sequence[Tensor], _: object) -> None:
        # the count is kept as a plain number here: reading torch's own would stall a GPU
        if averaged[0].is_floating_point():
            weight = 1 - ramped_decay(self.updates, self.decay)
            torch._foreach_lerp_(list(averaged), list(current), weight)
        else:
            torch._foreach_copy_(list(averaged), list(current))

    def state_dict(self) -> dict[str, Tensor]:
        """Averaged weights and the number of updates."""
        return self.averaged.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on where `state_dict` was taken."""
        self.averaged.load_state_dict(state)
        self.updates = int(self.averaged.n_averaged)
