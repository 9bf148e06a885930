"""Distillation as training sees it: losses against a teacher beside those of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.training.distillation.boxes import box_loss, detections
from flyweight.training.distillation.features import FeatureDistillation
from flyweight.training.distillation.logits import logit_loss, offset_loss
from flyweight.training.distillation.rows import (
    IGNORED,
    assigned_rows,
    offsets_of,
    rows_of,
    rows_of_scores,
    share_offsets,
    share_rows,
    teacher_rows,
)
from flyweight.training.distillation.teacher import Answer, Teacher, neck_of, open_teacher, watched
from flyweight.training.recipe import Recipe

# B images, A rows, C classes

# Of what a teacher finds with less, no soft target is made.
FAINTEST = 0.05
FEATURE_KINDS = {"features": "pkd", "fgd": "fgd"}


class Distillation(nn.Module):
    """The losses of a student with a teacher.

    Its parameters, where it has any, are adapters of features: trained with the student, and part
    of the resume state, but of no checkpoint. The teacher is no part of it.

    Args:
        student: what will be trained.
        teacher: opened with levels, where features are distilled.
        weights: of each kind: "logits", "boxes", "features" (PKD), "fgd".
        temperature: of logits.
        score: from which a detection of the teacher is an object.
    """

    def __init__(
        self,
        student: Detector,
        teacher: Teacher,
        *,
        weights: dict[str, float],
        temperature: float = 2.0,
        score: float = 0.4,
    ) -> None:
        super().__init__()
        self.teacher = teacher
        self.weights = weights
        self.temperature = temperature
        self.score = score
        self.shares_rows = share_rows(student, teacher)
        self.shares_offsets = self.shares_rows and share_offsets(student, teacher)
        self.features = nn.ModuleDict({
            kind: FeatureDistillation(student, teacher.reference, kind=loss)  # type: ignore[arg-type]
            for kind, loss in FEATURE_KINDS.items()
            if kind in weights
        })  # fmt: skip

    def forward(self, student: Detector, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """The student's own losses, and `distill_KIND` beside them, scalars.

        Args:
            images: `[B, H, W, 3]`, RGB 0 to 255, uint8 or float.
            targets: boxes in input pixels.
        """
        size_hw = (images.shape[1], images.shape[2])
        objective, _ = student.interpretation(size_hw)
        watching: AbstractContextManager[list[Tensor]] = (
            watched(neck_of(student)) if self.features else nullcontext([])
        )
        with watching as levels:
            raw = student.model(student.normalise(images))
        losses = dict(objective(raw, targets))
        answer = self.teacher(images)
        taught: dict[str, Tensor] = {}
        if "logits" in self.weights:
            taught |= self._logits(raw, objective, answer, size_hw)
        if "boxes" in self.weights:
            taught["boxes"] = box_loss(raw, objective, answer, targets, score=self.score)
        for kind, loss in self.features.items():
            taught[kind] = loss(levels, answer.levels, targets, size_hw=size_hw)
        weights = self.weights | {"offsets": self.weights.get("logits", 0.0)}
        return losses | {f"distill_{kind}": weights[kind] * loss for kind, loss in taught.items()}

    def _logits(
        self, raw: Any, objective: Any, answer: Answer, size_hw: tuple[int, int]
    ) -> dict[str, Tensor]:
        """`logits`, and `offsets` where those mean the same to both."""
        if not (self.shares_rows and answer.dense and size_hw == self.teacher.size_hw):
            return {"logits": self._logits_by_matching(raw, objective, answer)}
        student = rows_of(raw)
        teacher = teacher_rows(answer, self.teacher, like=student)
        losses = {"logits": logit_loss(student, teacher, temperature=self.temperature)}
        if self.shares_offsets:
            losses["offsets"] = offset_loss(
                offsets_of(raw), offsets_of(answer.raw), teacher.foreground()
            )
        return losses

    def _logits_by_matching(self, raw: Any, objective: Any, answer: Answer) -> Tensor:
        """Each row of the student learns all that the teacher says of the object that the student's
        own matching gives it; where there is none, that there is none."""
        found = detections(answer, score=FAINTEST)
        student, places = assigned_rows(raw, objective, found.as_places())
        scores = student.logits.new_zeros(*places.shape, answer.scores.shape[-1])
        if found.valid.shape[1]:
            index = places.clamp(min=0).unsqueeze(-1).expand_as(scores)
            scores = torch.where(places.unsqueeze(-1) >= 0, found.scores.gather(1, index), scores)
        return logit_loss(
            student,
            rows_of_scores(scores, like=student),
            temperature=self.temperature,
            counted=places != IGNORED,
        )

    def get_extra_state(self) -> dict[str, str]:
        """Which teacher it is, for the resume state."""
        return {"sha256": self.teacher.sha256}

    def set_extra_state(self, state: dict[str, str]) -> None:
        """See that a run goes on with the teacher that it was started with.

        Raises:
            InputError: the file is another.
        """
        if state["sha256"] != self.teacher.sha256:
            raise InputError(
                "the run was started with another teacher",
                where=self.teacher.name,
                fix="bring its file back, or start a new run with another --out",
            )

    def describe(self) -> dict[str, Any]:
        """Who taught what, for the lineage of a checkpoint."""
        return {
            "name": self.teacher.name,
            "sha256": self.teacher.sha256,
            "model": str(self.teacher.reference.config.name),
            "distilled": sorted(self.weights),
        }


def make_distillation(
    student: Detector, recipe: Recipe, *, device: torch.device | str = "cpu"
) -> Distillation | None:
    """What a recipe says of a teacher, which goes into the student's lineage; None where it names
    none.

    Raises:
        InputError: the teacher cannot be used for this student.
    """
    if not recipe.teacher:
        return None
    kinds = recipe.distill
    levels = any(kind in FEATURE_KINDS for kind in kinds)
    if levels and recipe.compile:
        raise InputError(
            "a compiled network does not show its features",
            where="recipe field compile",
            fix="leave compile out, or distil logits or boxes",
        )
    teacher = open_teacher(
        recipe.teacher,
        student.class_names,
        device=device,
        levels=levels,
    )
    # adapters are the same in every process, and whatever was drawn before
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        distillation = Distillation(
            student,
            teacher,
            weights=dict(zip(kinds, _weights(kinds, recipe.distill_weights), strict=True)),
            temperature=recipe.distill_temperature,
            score=recipe.distill_score,
        )
    student.lineage = student.lineage | {"teacher": distillation.describe()}
    return distillation


def _weights(kinds: Sequence[str], given: Sequence[float]) -> Sequence[float]:
    """One for each kind; a single one is for all."""
    return given if len(given) > 1 else [given[0]] * len(kinds)
