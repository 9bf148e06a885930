"""The same answers from a checkpoint and its exported file, in the student's pixels and classes."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor

from flyweight.core.errors import InputError
from flyweight.core.manifest import Thresholds
from flyweight.export.nms_graph import add_nms
from flyweight.export.onnx import export_manifest, save_onnx
from flyweight.models.detectors import checkpoint
from flyweight.training.distillation.teacher import (
    Answer,
    Teacher,
    neck_of,
    open_teacher,
    watched,
)
from tests.training.conftest import CLASSES


def test_a_checkpoint_says_what_its_detector_says(teacher_file: Path, images: Tensor) -> None:
    answer = open_teacher(teacher_file, CLASSES)(images)
    with torch.no_grad():
        boxes, scores = checkpoint.load(teacher_file)(images)
    torch.testing.assert_close(answer.boxes_xyxy, boxes)
    torch.testing.assert_close(answer.scores, scores)
    assert answer.dense
    assert not answer.levels
    assert not answer.scores.requires_grad


def test_answers_are_in_the_students_pixels_and_classes(teacher_file: Path, images: Tensor) -> None:
    """A student of twice the size, its classes in another order."""
    boxes, scores = torch.tensor([[[2.0, 4, 30, 60]]]), torch.tensor([[[0.9, 0.2]]])
    seen = []

    def run(inputs: Tensor) -> Answer:
        seen.append(inputs)
        return Answer(boxes, scores)

    reference = checkpoint.load(teacher_file)
    teacher = Teacher(
        teacher_file, reference=reference, run=run, has_weights=True, classes=CLASSES[::-1]
    )
    wide = images.repeat_interleave(2, dim=1).repeat_interleave(3, dim=2)
    answer = teacher(wide)
    assert answer.boxes_xyxy.tolist() == [[[6, 8, 90, 120]]]
    torch.testing.assert_close(answer.scores, scores.flip(-1))
    assert seen[0].shape == images.shape
    # within the blocks that the picture is made of
    torch.testing.assert_close(seen[0][:, 4::8, 4::8], images[:, 4::8, 4::8].float())


def test_an_exported_file_says_the_same(
    teacher_file: Path, exported_teacher: Path, images: Tensor
) -> None:
    """Its batch is one image, the student's is three."""
    expected = open_teacher(teacher_file, CLASSES)(images)
    for given in (images, images.float()):
        answer = open_teacher(exported_teacher, CLASSES)(given)
        torch.testing.assert_close(answer.boxes_xyxy, expected.boxes_xyxy, atol=0.05, rtol=0)
        torch.testing.assert_close(answer.scores, expected.scores, atol=1e-3, rtol=0)
        assert answer.raw is None


def test_an_exported_file_with_nms_has_the_best_of_them(
    teacher_file: Path, exported_teacher: Path, images: Tensor, tmp_path: Path
) -> None:
    detector = checkpoint.load(teacher_file)
    detector.thresholds = Thresholds(score=0.05, iou=0.5, max_detections=20)
    path = tmp_path / "nms.onnx"
    manifest = export_manifest(detector, format="onnx", nms=True)
    graph = onnx.load(exported_teacher)
    save_onnx(add_nms(graph, detector.thresholds), path, manifest=manifest)
    answer = open_teacher(path, CLASSES)(images)
    assert not answer.dense
    assert answer.scores.shape == (3, 20, 2)
    expected = open_teacher(teacher_file, CLASSES)(images).scores.flatten(1).amax(1)
    torch.testing.assert_close(answer.scores.flatten(1).amax(1), expected, atol=1e-3, rtol=0)
    assert ((answer.scores > 0).sum(-1) <= 1).all()


def test_levels_are_seen_and_nothing_is_left_behind(teacher_file: Path, images: Tensor) -> None:
    teacher = open_teacher(teacher_file, CLASSES, levels=True)
    answer = teacher(images)
    neck = neck_of(teacher.reference)
    assert [each.shape[1] for each in answer.levels] == [f.channels for f in neck.feature_info]
    assert not neck._forward_hooks
    with pytest.raises(RuntimeError), watched(neck):
        raise RuntimeError
    assert not neck._forward_hooks


def test_a_class_that_the_teacher_lacks_is_named(teacher_file: Path) -> None:
    with pytest.raises(InputError, match="no class for 'blue'; it has 'green' besides"):
        open_teacher(teacher_file, ("red", "blue"))


def test_what_is_no_teacher_is_refused(exported_teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shows its outputs, not the features"):
        open_teacher(exported_teacher, CLASSES, levels=True)
    with pytest.raises(InputError, match="no teacher"):
        open_teacher(tmp_path / "teacher.pt", CLASSES)
    with pytest.raises(InputError, match="no such checkpoint"):
        open_teacher(tmp_path / "none.safetensors", CLASSES)
