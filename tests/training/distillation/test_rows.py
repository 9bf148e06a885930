"""Scores back to logits, classes of a teacher with more, and whose rows mean the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flyweight.compression.prune import prune
from flyweight.compression.prune_target import Target
from flyweight.models.detectors import checkpoint
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.training.distillation.rows import (
    ClassRows,
    assigned_rows,
    rows_of_scores,
    share_offsets,
    share_rows,
)
from flyweight.training.distillation.teacher import open_teacher
from tests.training.conftest import CLASSES, tiny_detector

SOFTMAX = ClassRows(torch.zeros(1, 1, 3), softmax=True)
SIGMOIDS = ClassRows(torch.zeros(1, 1, 2), softmax=False)
YOLO = ClassRows(torch.zeros(1, 1, 2), softmax=False, objectness=torch.zeros(1, 1))


def test_scores_of_a_softmax_are_that_softmax() -> None:
    logits = torch.randn(2, 5, 4)
    shares = logits.softmax(-1)
    rows = rows_of_scores(shares[..., 1:], like=SOFTMAX)
    torch.testing.assert_close(rows.logits.softmax(-1), shares)
    torch.testing.assert_close(rows.foreground(), 1 - shares[..., 0])


def test_sigmoids_that_say_more_than_one_are_scaled() -> None:
    rows = rows_of_scores(torch.tensor([[[0.9, 0.6]]]), like=SOFTMAX)
    torch.testing.assert_close(
        rows.logits.softmax(-1), torch.tensor([[[0.0, 0.6, 0.4]]]), atol=1e-5, rtol=0
    )


def test_scores_of_sigmoids_and_of_yolo_come_back() -> None:
    scores = torch.tensor([[[0.9, 0.3], [0.2, 0.0]]])
    found = rows_of_scores(scores, like=SIGMOIDS)
    torch.testing.assert_close(found.logits.sigmoid(), scores, atol=1e-5, rtol=0)
    found = rows_of_scores(scores, like=YOLO)
    assert found.objectness is not None
    again = found.objectness.sigmoid().unsqueeze(-1) * found.logits.sigmoid()
    torch.testing.assert_close(again, scores, atol=1e-5, rtol=0)


def test_classes_that_a_student_has_not_are_background_to_it() -> None:
    rows = ClassRows(torch.randn(2, 3, 5), softmax=True)
    shares = rows.logits.softmax(-1)
    found = rows.of_classes([3, 1]).logits.softmax(-1)
    expected = torch.stack((shares[..., [0, 1, 3]].sum(-1), shares[..., 4], shares[..., 2]), -1)
    torch.testing.assert_close(found, expected)


def test_rows_of_the_same_anchors_are_shared(
    teacher_file: Path, exported_teacher: Path, small_detector: Callable[..., Detector]
) -> None:
    teacher = open_teacher(teacher_file, CLASSES)
    student = tiny_detector()
    assert share_rows(student, teacher)
    assert share_offsets(student, teacher)
    assert share_rows(
        small_detector("ssdlite320_mobilenet_v1", classes=CLASSES, width=0.5), teacher
    )
    assert not share_rows(student.at_size((96, 96)), teacher)
    others = small_detector("retinanet_snet", classes=CLASSES)
    assert not share_rows(others, teacher)
    config: Any = student.config
    boxes = tuple(tuple((w, h * 0.9) for w, h in level) for level in config.default_boxes)
    manifest = replace(student.manifest(), model=replace(config, default_boxes=boxes).to_dict())
    assert not share_rows(checkpoint.rebuild(manifest), teacher)
    exported = open_teacher(exported_teacher, CLASSES)
    assert share_rows(student, exported)
    assert not share_offsets(student, exported)


def test_a_pruned_student_shares_the_rows_of_its_original(teacher_file: Path) -> None:
    whole = checkpoint.load(teacher_file)
    pruned = prune(whole, Target(share=0.6), multiple=1).detector
    teacher = open_teacher(teacher_file, CLASSES)
    assert sum(each.numel() for each in pruned.parameters()) < sum(
        each.numel() for each in whole.parameters()
    )
    assert share_rows(pruned, teacher)
    assert share_offsets(pruned, teacher)


@pytest.mark.parametrize(
    "name",
    [
        "ssdlite320_mobilenet_v1",
        "retinanet_snet",
        "yolov3",
        "faster_rcnn_mobilenet_v3_large_320_fpn",
    ],
)
def test_matching_is_the_students_own(name: str, small_detector: Callable[..., Detector]) -> None:
    """Each object of a teacher has rows of the student, which overlap it; none has another's."""
    detector = small_detector(name).eval()
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    found = Targets(
        torch.tensor([[[2.0, 2, 30, 30], [30, 30, 62, 62]], [[10.0, 10, 50, 50], [0, 0, 0, 0]]]),
        torch.tensor([[0, 1], [0, -1]]),
    )
    raw = detector.model(detector.normalise(images))
    rows, places = assigned_rows(raw, detector.objective, found)
    assert places.shape == rows.logits.shape[:2]
    assert set(places[0].tolist()) >= {-1, 0, 1}
    assert set(places[1].tolist()) - {-2} == {-1, 0}
    assert (places >= 0).sum() < places.numel() / 2
