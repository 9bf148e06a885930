from __future__ import annotations

import warnings

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR

from flyweight.training.recipe import Recipe
from flyweight.training.schedule import make_schedule


def rates(schedule: LRScheduler, steps: int) -> list[float]:
    """The learning rate that each step is taken with."""
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        with warnings.catch_warnings():
            # no optimiser step is taken here
            warnings.simplefilter("ignore")
            schedule.step()
    return found


def sgd(lr: float) -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def test_cosine_is_torchs() -> None:
    recipe = Recipe(epochs=4, lr=0.1, warmup_epochs=0, final_lr_ratio=0.02)
    ours = rates(make_schedule(sgd(0.1), recipe, steps_per_epoch=5), 20)
    theirs = rates(CosineAnnealingLR(sgd(0.1), T_max=20, eta_min=0.002), 20)
    assert ours == pytest.approx(theirs)


def test_steps_are_torchs() -> None:
    recipe = Recipe(
        epochs=4,
        lr=0.1,
        warmup_epochs=0,
        schedule="steps",
        step_epochs=(0.5, 0.75),
        step_factor=0.2,
    )
    ours = rates(make_schedule(sgd(0.1), recipe, steps_per_epoch=5), 20)
    theirs = rates(MultiStepLR(sgd(0.1), milestones=[10, 15], gamma=0.2), 20)
    assert ours == pytest.approx(theirs)


def test_warm_up_rises_in_a_line_to_the_full_rate() -> None:
    recipe = Recipe(epochs=4, lr=0.1, warmup_epochs=2, warmup_ratio=0.1, schedule="constant")
    ours = rates(make_schedule(sgd(0.1), recipe, steps_per_epoch=5), 20)
    # torch's starts on the ratio itself, ours one tenth of the way up
    theirs = rates(LinearLR(sgd(0.1), start_factor=0.1, total_iters=10), 11)[1:]
    assert ours[:10] == pytest.approx(theirs)
    assert ours[10:] == pytest.approx([0.1] * 10)


def test_warm_up_takes_half_of_a_short_run_at_most() -> None:
    recipe = Recipe(epochs=2, lr=0.1, warmup_epochs=3)
    ours = rates(make_schedule(sgd(0.1), recipe, steps_per_epoch=4), 8)
    assert max(ours) == pytest.approx(0.1)
    assert ours[-1] < ours[4]


def test_groups_keep_their_own_rates() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD(
        [{"params": [weights[0]], "lr": 0.01}, {"params": [weights[1]], "lr": 0.1}], lr=0.1
    )
    schedule = make_schedule(optimizer, Recipe(epochs=10), steps_per_epoch=10)
    low, high = schedule.get_last_lr()
    assert low == pytest.approx(high / 10)
