"""A teacher's detections as objects to learn: from any detector to any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flyweight.models.detectors.targets import PADDING, Targets
from flyweight.models.ops.nms import class_aware_nms
from flyweight.training.distillation.teacher import Answer

# B images, N rows of the teacher, G detections of an image at most, C classes

NMS_IOU = 0.5
MOST_CANDIDATES = 400
MOST_DETECTIONS = 100
# From this share of the score that makes an object on, a detection is a region to ignore, as in
# `flyweight label`.
UNCERTAIN = 0.5


@dataclass(frozen=True)
class Found:
    """The detections of a teacher, padded to one number.

    Attributes:
        boxes_xyxy: `[B, G, 4]`, pixels of the student's input; zeros where padded.
        scores: `[B, G, C]`, all that it says of each; zeros where padded.
        valid: bool `[B, G]`, false where a slot is padding.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    valid: Tensor

    def as_places(self) -> Targets:
        """Objects whose labels are their own places, for matching alone."""
        places = torch.arange(self.valid.shape[1], device=self.valid.device).expand_as(self.valid)
        return Targets(self.boxes_xyxy, torch.where(self.valid, places, PADDING))


@torch.no_grad()
def detections(answer: Answer, *, score: float) -> Found:
    """What a teacher finds with a score above `score`, after NMS among boxes of one class."""
    best, labels = answer.scores.max(dim=-1)
    slots = min(MOST_CANDIDATES, best.shape[1])
    kept = []
    for boxes, scores, classes in zip(answer.boxes_xyxy, best, labels, strict=True):
        order = scores.topk(slots).indices
        order = order[scores[order] > score]
        chosen = class_aware_nms(boxes[order], scores[order], classes[order], NMS_IOU)
        kept.append(order[chosen[:MOST_DETECTIONS]])
    index = torch.nn.utils.rnn.pad_sequence(kept, batch_first=True, padding_value=-1)
    valid = (index >= 0).unsqueeze(-1)
    image = torch.arange(len(best), device=index.device).unsqueeze(1)
    place = index.clamp(min=0)
    return Found(
        torch.where(valid, answer.boxes_xyxy[image, place], 0.0),
        torch.where(valid, answer.scores[image, place], 0.0),
        valid.squeeze(-1),
    )


def as_targets(found: Found, labelled: Targets, *, score: float) -> Targets:
    """Detections from `score` on as objects.

    Nothing is called background where the teacher is unsure, where the labels have an object that
    it has missed, or where they ignore a region.
    """
    best, labels = found.scores.max(dim=-1) if found.scores.shape[1] else _nothing(found)
    believed = found.valid & (best >= score)
    unsure = torch.where((found.valid & ~believed).unsqueeze(-1), found.boxes_xyxy, 0.0)
    regions = [unsure, torch.where(labelled.valid.unsqueeze(-1), labelled.boxes_xyxy, 0.0)]
    if labelled.ignored_xyxy is not None:
        regions.append(labelled.ignored_xyxy)
    return Targets(
        torch.where(believed.unsqueeze(-1), found.boxes_xyxy, 0.0),
        torch.where(believed, labels, PADDING),
        torch.cat(regions, dim=1),
    )


def box_loss(
    raw: Any, objective: Any, answer: Answer, labelled: Targets, *, score: float
) -> Tensor:
    """The student's own losses with the teacher's detections for objects, their sum; a scalar.

    Args:
        raw: the student's raw outputs.
        objective: the student's, for the size of the batch.
        labelled: the objects of the batch.
        score: from which a detection is an object.
    """
    found = detections(answer, score=UNCERTAIN * score)
    losses = objective(raw, as_targets(found, labelled, score=score))
    return torch.stack(list(losses.values())).sum()


def _nothing(found: Found) -> tuple[Tensor, Tensor]:
    """Best scores and labels `[B, 0]`."""
    empty = found.boxes_xyxy.new_zeros(found.valid.shape)
    return empty, empty.long()
