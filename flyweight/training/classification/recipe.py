"""How a classifier is trained: every number of a run in one frozen dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flyweight.core.errors import InputError
from flyweight.training.recipe import Recipe, known_fields


@dataclass(frozen=True)
class ClassificationRecipe:
    """All settings of a classifier's training; AdamW and a cosine, as detectors are trained.

    Attributes:
        epochs: passes over the training images.
        batch_size: images of one step.
        lr: learning rate at its highest, after the warm-up.
        weight_decay: for convolution and linear weights; norms and biases have none.
        warmup_epochs: epochs of linear warm-up.
        ema_decay: decay of the averaged weights; 0 turns averaging off.
        label_smoothing: ε of the targets `(1 - ε) y + ε / K` (Szegedy et al. 2016, section 7).
        balanced: draw every class equally often, for skewed data.
        context: how far the region of a cut-out object goes beyond it, see `square_regions`.
        background: whether pieces without objects are a class of their own, see `object_crops`.
        min_area: the smallest window of a region that is trained on, as a share of its area.
        precision: "32-true" or "bf16-mixed".
        seed: start of every random number of the run.
        workers: processes that read images; None chooses by device.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        save_minutes: longest time between two savings of the state within an epoch.
        log_every: steps between two looks at the loss when looking stalls the device.
    """

    epochs: int = 50
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 2.0
    ema_decay: float = 0.998
    label_smoothing: float = 0.1
    balanced: bool = False
    context: float = 0.15
    background: bool = True
    min_area: float = 0.35
    precision: str = "32-true"
    seed: int = 0
    workers: int | None = None
    device: str = "auto"
    save_minutes: float = 10.0
    log_every: int = 20

    def __post_init__(self) -> None:
        self.optimisation  # noqa: B018  # says what is wrong with the numbers that it shares
        if self.batch_size < 2:
            raise InputError(
                "a batch of one image gives BatchNorm nothing to average",
                where="recipe field batch_size",
                fix="take 2 or more",
            )
        for name, fits, fix in (
            ("label_smoothing", 0 <= self.label_smoothing < 1, "from 0 (off) to below 1"),
            ("context", 0 <= self.context <= 1, "from 0 to 1"),
            ("min_area", 0 < self.min_area <= 1, "above 0 and up to 1"),
        ):
            if not fits:
                raise InputError(
                    f"{name} is {getattr(self, name)}",
                    where=f"recipe field {name}",
                    fix=f"give a number {fix}",
                )

    @property
    def optimisation(self) -> Recipe:
        """What the optimiser, the schedule and the device are made from."""
        shared = {name: value for name, value in asdict(self).items() if name not in OWN}
        return Recipe(**shared, augmentation="random_resized_crop", eval_every=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for YAML; `from_dict` reads them back."""
        return asdict(self)

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> ClassificationRecipe:
        """Read a recipe.

        Raises:
            InputError: a field is unknown or its value out of range.
        """
        return ClassificationRecipe(**known_fields(ClassificationRecipe, content))


# What detectors' recipes do not have.
OWN = ("label_smoothing", "balanced", "context", "background", "min_area")
