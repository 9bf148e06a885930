"""How a detector is trained: every number of a run in one frozen dataclass, and named presets."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from flyweight.core.errors import InputError

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "steps", "constant")
PRECISIONS = ("32-true", "bf16-mixed")
LOGGERS = ("csv", "tensorboard", "mlflow")
DISTILLED = ("logits", "boxes", "features", "fgd")

# an image that is only evaluated costs about a third of one that is trained on
EVALUATION_COST = 0.35
EVALUATION_SHARE = 0.1

# a run may be resumed with other values of these: they change its pace, not its weights
FREE_TO_CHANGE = frozenset(
    {
        "cache", "cache_gb", "compile", "device", "devices", "num_nodes", "strategy", "workers",
        "save_minutes", "log_every", "loggers",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run.

    Attributes:
        epochs: passes over the training images.
        batch_size: images of one step, in each process.
        mini_batches: parts that a batch passes in, one after the other, before the weights change
            (gradient accumulation): so much less memory for the same step.
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
        compile: torch compiles the network, for a minute or two, and steps are faster then; for
            long runs. Needs a C++ compiler.
        augmentation: a name of `flyweight.transforms.presets`: "ssd", "yolov4", "none" ...
        close_epochs: last epochs without mosaics, blends and erasing, on pictures as they are
            (Ge et al. 2021, YOLOX, section 2.1, takes 15 of 300).
        balance: pictures of classes that fewer than this share of the pictures show come more
            often (Gupta et al. 2019, LVIS); 0 shows each once an epoch.
        ratio: pictures of a second data set for each labelled one, where there is a second
            (`extra`); batches keep it. Mosaics take their other parts from both alike.
        cache: keeps decoded pictures: "memory", or a folder on a fast disk; "" decodes each time.
            The results are the same.
        cache_gb: how much it may take, over all reading processes.
        multi_scale: smallest and largest factor of the input's size, drawn anew every ten steps
            (Redmon & Farhadi 2017, YOLO9000, section 2); (1, 1) keeps the size.
        adversarial: share of the steps whose images the network first changes so that it misses
            their objects (Bochkovskiy et al. 2020, YOLOv4, section 3.3), at twice the time.
        adversarial_pixels: how far it may move each value, of 255.
        drop_block: share of the backbone's coarsest levels that DropBlock drops at the end of the
            training, rising from 0 (Ghiasi et al. 2018); 0 turns it off.
        freeze_norms: BatchNorm keeps its statistics and weights, for pretrained backbones and few
            images a batch.
        sync_norms: BatchNorm counts over the batches of all GPUs.
        norm_sparsity: pull of the norms' scales towards zero, for pruning by "bn_scale"; times `lr`
            it is what a scale loses in a step. 0 for none.
        backbone_lr_scale: factor on `lr` for the backbone, for pretrained weights.
        freeze_backbone_stages: stages of the backbone, from the image on, that stay as they are.
        teacher: file of a detector to learn from beside the labels, a checkpoint or exported; ""
            for none (`flyweight.training.distillation`).
        distill: what of it: "logits", "boxes", "features" (PKD), "fgd".
        distill_weights: factors of these losses, one for all or one each.
        distill_temperature: that softens its logits (Hinton et al. 2015, section 2).
        distill_score: from which on its detection is an object, for "boxes".
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
        loggers: where the figures of each epoch go besides `metrics.jsonl`: "csv", "tensorboard",
            "mlflow".
    """

    epochs: int = 100
    batch_size: int = 16
    mini_batches: int = 1
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
    compile: bool = False
    augmentation: str = "ssd"
    close_epochs: int = 0
    balance: float = 0.0
    ratio: float = 1.0
    cache: str = ""
    cache_gb: float = 2.0
    multi_scale: tuple[float, float] = (1.0, 1.0)
    adversarial: float = 0.0
    adversarial_pixels: float = 4.0
    drop_block: float = 0.0
    freeze_norms: bool = False
    sync_norms: bool = False
    norm_sparsity: float = 0.0
    backbone_lr_scale: float = 1.0
    freeze_backbone_stages: int = 0
    teacher: str | os.PathLike[str] = ""
    distill: tuple[str, ...] = ("logits",)
    distill_weights: tuple[float, ...] = (1.0,)
    distill_temperature: float = 2.0
    distill_score: float = 0.4
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
    loggers: tuple[str, ...] = ("csv", "tensorboard")

    def __post_init__(self) -> None:
        # A path from Python is a string in the run's config.
        object.__setattr__(self, "teacher", os.fspath(self.teacher))
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
        for field, known in (("loggers", LOGGERS), ("distill", DISTILLED)):
            for name in getattr(self, field):
                if name not in known:
                    raise InputError(
                        f"unknown {field.rstrip('s')} '{name}'",
                        where=f"recipe field {field}",
                        fix=f"choose from {', '.join(known)}",
                    )
        if len(self.distill_weights) not in (1, len(self.distill)):
            raise InputError(
                f"{len(self.distill_weights)} weights for {len(self.distill)} kinds",
                where="recipe field distill_weights",
                fix="give one for all, or one for each of distill",
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
        for name in ("adversarial", "balance", "drop_block", "distill_score"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"{name} is {getattr(self, name)}",
                    where=f"recipe field {name}",
                    fix="give a share, 0 to 1",
                )
        if self.mini_batches > self.batch_size:
            raise InputError(
                f"a batch of {self.batch_size} does not give {self.mini_batches} parts",
                where="recipe field mini_batches",
                fix="give a larger batch_size or fewer mini_batches",
            )
        low, high = self.multi_scale
        if not 0 < low <= high:
            raise InputError(
                f"multi_scale is {self.multi_scale}",
                where="recipe field multi_scale",
                fix="give the smallest and the largest factor, such as 0.75 and 1.25",
            )
        object.__setattr__(self, "step_epochs", tuple(self.step_epochs))
        for name in ("loggers", "distill", "distill_weights"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "multi_scale", (float(low), float(high)))

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
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Recipe:
        """Read a recipe.

        Raises:
            InputError: a field is unknown or its value out of range.
        """
        return Recipe(**known_fields(Recipe, content))


def known_fields(recipe: type[Any], content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content of a recipe's file.

    Raises:
        InputError: the dataclass `recipe` has no field of some name.
    """
    known = {field.name for field in fields(recipe)}
    unknown = sorted(set(content) - known)
    if unknown:
        raise InputError(
            f"unknown field '{unknown[0]}'",
            where="recipe",
            fix=f"known fields are {', '.join(sorted(known))}",
        )
    return content


LOWEST: Mapping[str, float] = {
    "epochs": 1,
    "batch_size": 1,
    "mini_batches": 1,
    "adversarial_pixels": 0,
    "weight_decay": 0,
    "momentum": 0,
    "final_lr_ratio": 0,
    "warmup_epochs": 0,
    "close_epochs": 0,
    "cache_gb": 0,
    "warmup_ratio": 0,
    "clip_norm": 0,
    "norm_sparsity": 0,
    "backbone_lr_scale": 0,
    "freeze_backbone_stages": 0,
    "distill_temperature": 0.1,
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
