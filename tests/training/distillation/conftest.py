"""A teacher whose answers are known, and files of a tiny one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flyweight.export.onnx import export_manifest, save_onnx, to_onnx
from flyweight.models.detectors import checkpoint
from flyweight.models.detectors.detector import Detector
from flyweight.training.distillation.teacher import Answer, Teacher
from tests.training.conftest import CLASSES, tiny_detector


def confident_detector(seed: int = 3) -> Detector:
    """The tiny detector with scores of every size, as after a training.

    Its norms take the statistics of noise, else little of a picture would come through.
    """
    detector = tiny_detector(seed).train()
    norms = [each for each in detector.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        detector(torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8))
        for name, weight in detector.named_parameters():
            if "head.classification" in name and weight.shape[1:] != (1, 3, 3) and weight.ndim == 4:
                weight.mul_(30)
    return detector.eval()


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two classes, 64 x 64 pixels."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    checkpoint.save(confident_detector(), path)
    return path


@pytest.fixture(scope="session")
def exported_teacher(teacher_file: Path) -> Path:
    """The same, exported for one image."""
    path = teacher_file.with_suffix(".onnx")
    detector = checkpoint.load(teacher_file)
    save_onnx(to_onnx(detector), path, manifest=export_manifest(detector, format="onnx"))
    return path


@pytest.fixture
def images() -> Tensor:
    """uint8 `[3, 64, 64, 3]`: smooth, so that a size up and down changes little."""
    generator = torch.Generator().manual_seed(4)
    coarse = torch.randint(0, 256, (3, 8, 8, 3), generator=generator, dtype=torch.uint8)
    return coarse.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)


@pytest.fixture
def answering(teacher_file: Path) -> Callable[..., Teacher]:
    """`answering(boxes, scores)`: a teacher that says the same of every batch: `[B, N, 4]` pixels
    of 64 x 64, and `[B, N, 2]`."""

    def make(boxes_xyxy: Tensor, scores: Tensor) -> Teacher:
        return Teacher(
            teacher_file,
            reference=tiny_detector(),
            run=lambda images: Answer(boxes_xyxy, scores, dense=False),
            has_weights=False,
            classes=CLASSES,
        )

    return make
