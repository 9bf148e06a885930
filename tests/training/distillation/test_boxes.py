"""A teacher's detections as objects, and what is called background beside them."""

from __future__ import annotations

import torch

from flyweight.models.detectors.targets import Targets
from flyweight.training.distillation.boxes import as_targets, box_loss, detections
from flyweight.training.distillation.teacher import Answer
from tests.training.conftest import tiny_detector

# the first two overlap by an IoU of 0.9, the third is alone, the fourth is faint
BOXES = torch.tensor([[[0.0, 0, 20, 20], [0, 0, 20, 18], [40, 40, 60, 60], [30, 0, 50, 20]]])
SCORES = torch.tensor([[[0.8, 0.1], [0.7, 0.2], [0.0, 0.3], [0.05, 0.0]]])


def test_overlapping_detections_of_one_class_are_one() -> None:
    found = detections(Answer(BOXES, SCORES), score=0.1)
    assert found.valid.tolist() == [[True, True]]
    torch.testing.assert_close(found.boxes_xyxy[0], BOXES[0, [0, 2]])
    torch.testing.assert_close(found.scores[0], SCORES[0, [0, 2]])


def test_images_are_padded_to_one_number() -> None:
    boxes, scores = torch.cat((BOXES, BOXES)), torch.cat((SCORES, SCORES * 0.01))
    found = detections(Answer(boxes, scores), score=0.1)
    assert found.valid.tolist() == [[True, True], [False, False]]
    assert found.boxes_xyxy[1].abs().sum() == 0
    assert found.as_places().labels.tolist() == [[0, 1], [-1, -1]]
    nothing = detections(Answer(boxes, scores * 0.01), score=0.1)
    assert nothing.valid.shape == (2, 0)
    unlabelled = Targets(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64))
    assert as_targets(nothing, unlabelled, score=0.5).labels.shape == (2, 0)


def test_what_is_unsure_or_missed_is_ignored() -> None:
    labelled = Targets(
        torch.tensor([[[5.0, 45, 15, 60]]]), torch.tensor([[1]]), torch.tensor([[[0.0, 30, 9, 39]]])
    )
    targets = as_targets(detections(Answer(BOXES, SCORES), score=0.1), labelled, score=0.5)
    assert targets.labels.tolist() == [[0, -1]]
    assert targets.ignored_xyxy is not None
    regions = [each.tolist() for each in targets.ignored_xyxy[0] if each.any()]
    assert regions == [[40, 40, 60, 60], [5, 45, 15, 60], [0, 30, 9, 39]]


def test_the_loss_is_the_students_own_with_these_objects() -> None:
    detector = tiny_detector()
    with torch.no_grad():
        raw = detector.model(torch.randn(1, 3, 64, 64).expand(2, -1, -1, -1))
    nothing = Targets(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64))
    answer = Answer(
        BOXES.expand(2, -1, -1), torch.tensor([[[0.9, 0], [0, 0], [0, 0.8], [0, 0]]] * 2)
    )
    expected = detector.objective(
        raw, Targets(BOXES[:, [0, 2]].expand(2, -1, -1), torch.tensor([[0, 1], [0, 1]]))
    )
    found = box_loss(raw, detector.objective, answer, nothing, score=0.5)
    torch.testing.assert_close(found, torch.stack(list(expected.values())).sum())
