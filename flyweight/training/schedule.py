"""The learning rate of each step as a share of its highest."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from flyweight.training.recipe import Recipe


def lr_share(step: int, *, total_steps: int, warmup_steps: int, recipe: Recipe) -> float:
    """Share of `recipe.lr` in `step` (from 0) of `total_steps`.

    Linear warm-up over `warmup_steps` (Goyal et al. 2017, section 2.2), multiplied by half a
    cosine (Loshchilov & Hutter 2017, equation 5), by steps, or by nothing.
    """
    warm = 1.0
    if step < warmup_steps:
        warm = recipe.warmup_ratio + (1 - recipe.warmup_ratio) * (step + 1) / warmup_steps
    if recipe.schedule == "constant":
        return warm
    if recipe.schedule == "steps":
        passed = sum(step >= share * total_steps for share in recipe.step_epochs)
        return warm * recipe.step_factor**passed
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    wave = (1 + math.cos(math.pi * min(1.0, max(0.0, progress)))) / 2
    return warm * (recipe.final_lr_ratio + (1 - recipe.final_lr_ratio) * wave)


def make_schedule(optimizer: Optimizer, recipe: Recipe, *, steps_per_epoch: int) -> LambdaLR:
    """A schedule that is stepped once a batch."""
    total_steps = recipe.epochs * steps_per_epoch
    warmup_steps = min(round(recipe.warmup_epochs * steps_per_epoch), total_steps // 2)

    def share(step: int) -> float:
        return lr_share(step, total_steps=total_steps, warmup_steps=warmup_steps, recipe=recipe)

    return LambdaLR(optimizer, share)
