"""What each family's raw outputs say of classes, row by row: the one place that knows families.

A row is an anchor of SSD, RetinaNet or YOLO, or a proposal of Faster R-CNN.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.faster_rcnn import FasterRCNNOutputs
from flyweight.models.detectors.ssd import SSDOutputs
from flyweight.models.detectors.targets import Targets
from flyweight.models.detectors.yolo import YOLOOutputs
from flyweight.training.distillation.teacher import Answer, Teacher

# B images, A rows, C classes, G objects of a teacher

BACKGROUND, IGNORED = -1, -2
# Of probabilities that become logits again.
SMALLEST = 1e-6


@dataclass(frozen=True)
class ClassRows:
    """Raw class outputs.

    Attributes:
        logits: `[B, A, C + 1]` of one softmax, background first, or `[B, A, C]`, a sigmoid each.
        softmax: which of the two.
        objectness: logits `[B, A]` of YOLO, which its class probabilities are multiplied by.
    """

    logits: Tensor
    softmax: bool
    objectness: Tensor | None = None

    def of_classes(self, columns: list[int]) -> ClassRows:
        """With the classes `columns` alone; a softmax keeps the others as background."""
        if not self.softmax:
            return replace(self, logits=self.logits[..., columns])
        kept = [column + 1 for column in columns]
        others = sorted(set(range(self.logits.shape[-1])) - set(kept))
        background = self.logits[..., others].logsumexp(dim=-1, keepdim=True)
        return replace(self, logits=torch.cat((background, self.logits[..., kept]), dim=-1))

    def foreground(self) -> Tensor:
        """How sure each row is of any object, `[B, A]`, 0 to 1."""
        if self.softmax:
            return 1 - self.logits.softmax(dim=-1)[..., 0]
        if self.objectness is not None:
            return self.objectness.sigmoid()
        return self.logits.sigmoid().amax(dim=-1)


def rows_of(raw: Any) -> ClassRows:
    """The rows of a dense detector's raw outputs, in the order of its anchors."""
    if isinstance(raw, SSDOutputs):
        return ClassRows(raw.logits.float(), softmax=True)
    if isinstance(raw, YOLOOutputs):
        return ClassRows(raw.logits.float(), softmax=False, objectness=raw.objectness.float())
    return ClassRows(raw.logits.float(), softmax=False)


def offsets_of(raw: Any) -> Tensor:
    """Box outputs `[B, A, 4]` of a dense detector, as its head gives them."""
    offsets: Tensor = raw.offsets if isinstance(raw, YOLOOutputs) else raw.deltas
    return offsets.float()


def rows_of_scores(scores: Tensor, *, like: ClassRows) -> ClassRows:
    """Scores `[B, A, C]` of any detector as the rows that would give them.

    To a softmax what the scores leave of 1 is background (of SSD's own scores exactly; sigmoids
    that say more than 1 in all are scaled to 1). To YOLO the best score is the objectness.
    """
    if like.softmax:
        background = 1 - scores.sum(dim=-1, keepdim=True)
        shares = torch.cat((background, scores), dim=-1).clamp(min=SMALLEST)
        return ClassRows((shares / shares.sum(dim=-1, keepdim=True)).log(), softmax=True)
    if like.objectness is None:
        return ClassRows(scores.logit(eps=SMALLEST), softmax=False)
    best = scores.amax(dim=-1, keepdim=True)
    of_object = (scores / best.clamp(min=SMALLEST)).logit(eps=SMALLEST)
    return ClassRows(of_object, False, objectness=best.squeeze(-1).logit(eps=SMALLEST))


def assigned_rows(raw: Any, objective: Any, found: Targets) -> tuple[ClassRows, Tensor]:
    """The student's rows, and which of a teacher's objects each answers for.

    By the student's own matching, whatever its rules.

    Args:
        objective: the student's, for the size of the batch.
        found: the teacher's objects `[B, G]`, each with its own place 0 to G - 1 for a label.

    Returns:
        Rows `[B, A]`, and int64 `[B, A]`: the object's place, -1 for none, -2 for ignored.
    """
    if isinstance(raw, FasterRCNNOutputs):
        boxes, classes, _, sampled = objective.sample_regions(raw, found)
        logits, _ = raw.roi_head(raw.features, boxes)
        return ClassRows(logits.float(), softmax=True), torch.where(sampled, classes - 1, IGNORED)
    if isinstance(raw, YOLOOutputs):
        predicted = objective.coder.decode(raw.offsets.detach().float())
        return rows_of(raw), objective.assign(predicted, found)[1]
    places = objective.assign(found)[1]
    # SSD counts its classes from 1
    return rows_of(raw), places - 1 if isinstance(raw, SSDOutputs) else places


def share_rows(student: Detector, teacher: Teacher) -> bool:
    """Whether a row means the same to both: one family, size and grid of anchors, and each class
    of the student one of the teacher's."""
    family = student.config.family
    if family == "faster_rcnn" or family != teacher.reference.config.family:
        return False
    if family == "yolo" and not teacher.has_weights:  # its scores are products of two outputs
        return False
    if student.preprocessing.size_hw != teacher.size_hw or not teacher.one_to_one:
        return False
    own, others = _anchors(student), _anchors(teacher.reference)
    return own.shape == others.shape and torch.allclose(own.cpu(), others.cpu(), atol=1e-3)


def share_offsets(student: Detector, teacher: Teacher) -> bool:
    """Whether offsets mean the same to both, whose rows do."""
    ours: Any = student.config
    theirs: Any = teacher.reference.config
    names = ("coder_weights", "scale_of_levels")
    return teacher.has_weights and all(
        getattr(ours, name, None) == getattr(theirs, name, None) for name in names
    )


def teacher_rows(answer: Answer, teacher: Teacher, *, like: ClassRows) -> ClassRows:
    """The teacher's rows, where they are the student's (`share_rows`)."""
    if answer.raw is not None:
        return rows_of(answer.raw).of_classes([column for (column,) in teacher.columns])
    # behind the anchors come the cells of an anchor-free branch
    return rows_of_scores(answer.scores[:, : like.logits.shape[1]], like=like)


def _anchors(detector: Detector) -> Tensor:
    objective: Any = detector.objective
    boxes: Tensor = objective.anchors.boxes_xyxy
    return boxes
