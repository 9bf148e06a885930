"""How a detector is trained: every number of a run in one frozen dataclass, and named presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from flyweight.core.errors import InputError

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "steps", "constant")
PRECISIONS = ("32-true", "bf16-mixed")

# an image that is only evaluated costs about a third of one that is trained on
EVALUATION_COST = 0.35
EVALUATION_SHARE = 0.1

# a run may be resumed with other values of these: they change its pace, not its weights
FREE_TO_CHANGE = frozenset(
    {"device", "devices", "num_nodes", "strategy", "workers", "save_minutes", "log_every"}
)


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run.

    Attributes:
        epochs: passes over the training images.
        batch_size: images of one step, in each process.
        optimizer: "adamw" (Loshchilov & Hutter 2019) or "sgd" (with `momentum`).
        lr: learning rate at its highest, after the warm-up.
        weight_decay: for convolution and linear weights; norms and biases have none.
        momentum: SGD's momentum; Adam's first beta is 0.9 whatever this is.
        schedule: "cosine" (Loshchilov & Hutter 2017), "steps" or "constant".
        final_lr_ratio: where the cosine ends, as a share of `lr`.
        step_epochs: where "steps" multiplies by `step_factor`, as shares of the run.
        step_factor: what each step multiplies the learning rate by.
        warmup_epochs: epochs of linear warm-up (Goyal et al. 2017), counted in steps.
        warmup_ratio: where the warm-up starts, as a share of `lr`.
        ema_decay: decay of the averaged weights; 0 turns averaging off.
        clip_norm: largest norm of the whole gradient; 0 turns clipping off.
        precision: "32-true" or "bf16-mixed".
        augmentation: name that `flyweight.transforms` knows: "ssd", "ssdlite", "none".
        backbone_lr_scale: factor on `lr` for the backbone, for pretrained weights.
        freeze_backbone_stages: stages of the backbone, from the image on, that stay as they are.
        seed: start of every random number of the run.
        patience: epochs without a better AP after which the run stops; 0 never stops early.
        eval_every: epochs between evaluations; 0 chooses so that they cost little.
        workers: processes that read images; None chooses by device.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        devices: how many of them on this machine.
        num_nodes: machines.
        strategy: Fabric's strategy for several devices.
        save_minutes: longest time between two savings of the state within an epoch.
        log_every: steps between two looks at the loss when looking stalls the device.
    """

    epochs: int = 100
    batch_size: int = 16
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    schedule: str = "cosine"
    final_lr_ratio: float = 0.01
    step_epochs: tuple[float, ...] = (2 / 3, 11 / 12)
    step_factor: float = 0.1
    warmup_epochs: float = 1.0
    warmup_ratio: float = 0.001
    ema_decay: float = 0.998
    clip_norm: float = 10.0
    precision: str = "32-true"
    augmentation: str = "ssd"
    backbone_lr_scale: float = 1.0
    freeze_backbone_stages: int = 0
    seed: int = 0
    patience: int = 0
    eval_every: int = 0
    workers: int | None = None
    device: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    save_minutes: float = 10.0
    log_every: int = 20

    def __post_init__(self) -> None:
        for name, choices in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in choices:
                raise InputError(
                    f"unknown {name} '{getattr(self, name)}'",
                    where=f"recipe field {name}",
                    fix=f"choose one of {', '.join(choices)}",
                )
        for name, low in LOWEST.items():
            value = getattr(self, name)
            if value is not None and not value >= low:
                raise InputError(
                    f"{name} is {value}",
                    where=f"recipe field {name}",
                    fix=f"give a number from {low} on",
                )
        if not 0 <= self.ema_decay < 1:
            raise InputError(
                f"ema_decay is {self.ema_decay}",
                where="recipe field ema_decay",
                fix="give a number from 0 (off) to below 1",
            )
        if not self.lr > 0:
            raise InputError(
                f"lr is {self.lr}", where="recipe field lr", fix="give a number above 0"
            )
        object.__setattr__(self, "step_epochs", tuple(self.step_epochs))

    def evaluation_period(self, *, train_images: int, val_images: int) -> int:
        """Epochs from one evaluation to the next.

        Unless `eval_every` says it: about a tenth of the time goes into evaluations, and there
        are ten of them at least.
        """
        if self.eval_every:
            return self.eval_every
        share = EVALUATION_COST * val_images / max(1, train_images)
        return max(1, min(math.ceil(share / EVALUATION_SHARE), self.epochs // 10))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for YAML; `from_dict` reads them back."""
        return asdict(self) | {"step_epochs": list(self.step_epochs)}

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Recipe:
        """Read a recipe.

        Raises:
            InputError: a field is unknown or its value out of range.
        """
        known = {field.name for field in fields(Recipe)}
        unknown = sorted(set(content) - known)
        if unknown:
            raise InputError(
                f"unknown field '{unknown[0]}'",
                where="recipe",
                fix=f"known fields are {', '.join(sorted(known))}",
            )
        return Recipe(**content)


LOWEST: Mapping[str, float] = {
    "epochs": 1,
    "batch_size": 1,
    "weight_decay": 0,
    "momentum": 0,
    "final_lr_ratio": 0,
    "warmup_epochs": 0,
    "warmup_ratio": 0,
    "clip_norm": 0,
    "backbone_lr_scale": 0,
    "freeze_backbone_stages": 0,
    "seed": 0,
    "patience": 0,
    "eval_every": 0,
    "workers": 0,
    "devices": 1,
    "num_nodes": 1,
    "save_minutes": 0,
    "log_every": 1,
}


def ssdlite_recipe(**changes: Any) -> Recipe:
    """Fine-tuning a light SSD from a pretrained backbone on hundreds to thousands of images."""
    return Recipe(**changes)


def ssd_sgd_recipe(**changes: Any) -> Recipe:
    """SGD with two steps, as SSD was trained (Liu et al. 2016, section 3), scaled to batch 16."""
    published: dict[str, Any] = {
        "optimizer": "sgd",
        "lr": 5e-3,
        "weight_decay": 5e-4,
        "schedule": "steps",
    }
    return Recipe(**(published | changes))
