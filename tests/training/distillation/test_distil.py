"""Students of every family with one teacher; a run with a teacher, interrupted and resumed."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flyweight.core.errors import InputError
from flyweight.data.records import DetectionDataset
from flyweight.models.detectors import checkpoint
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.training.distillation.distil import Distillation, make_distillation
from flyweight.training.distillation.teacher import Teacher, open_teacher
from flyweight.training.interrupt import TrainingInterrupted
from flyweight.training.loop import train
from flyweight.training.recipe import Recipe
from flyweight.training.run_folder import RunFolder
from flyweight.training.step import TrainingStep
from tests.training.conftest import CLASSES, tiny_detector
from tests.training.distillation.conftest import confident_detector

EVERYTHING = {"logits": 1.0, "boxes": 1.0, "features": 1.0, "fgd": 1.0}
FAMILIES = [
    "ssdlite320_mobilenet_v3_small",
    "retinanet_snet",
    "yolov3",
    "faster_rcnn_mobilenet_v3_large_320_fpn",
]
OBJECTS = Targets(
    torch.tensor([[[4.0, 6, 40, 44]], [[30.0, 20, 60, 62]], [[0.0, 0, 0, 0]]]),
    torch.tensor([[0], [1], [-1]]),
)


def taught(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: loss for name, loss in losses.items() if name.startswith("distill_")}


def gradient(loss: Tensor, detector: Detector) -> float:
    """The largest of all weights' gradients."""
    parameters = list(detector.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return max(float(each.abs().max()) for each in found if each is not None)


def test_who_is_like_the_teacher_has_nothing_to_learn(teacher_file: Path, images: Tensor) -> None:
    student = checkpoint.load(teacher_file)
    teacher = open_teacher(teacher_file, CLASSES, levels=True)
    weights = {kind: 1.0 for kind in EVERYTHING if kind != "boxes"}
    distillation = Distillation(student, teacher, weights=weights)
    losses = distillation(student, images, OBJECTS)
    own = student.loss(images, OBJECTS)
    usual = gradient(own["class"], student)
    for name, loss in own.items():
        torch.testing.assert_close(losses.pop(name), loss)
    assert set(losses) == {f"distill_{kind}" for kind in (*weights, "offsets")}
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(0, abs=1e-6), name
        assert gradient(loss, student) < 1e-5 * usual, name


@pytest.mark.parametrize(("name", "size"), [*((name, 64) for name in FAMILIES), (FAMILIES[0], 96)])
def test_any_student_learns_from_it(
    name: str,
    size: int,
    teacher_file: Path,
    images: Tensor,
    small_detector: Callable[..., Detector],
) -> None:
    student = small_detector(name, classes=CLASSES[::-1], size=size)
    teacher = open_teacher(teacher_file, student.class_names, levels=True)
    distillation = Distillation(student, teacher, weights=EVERYTHING)
    scaled = images.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)[:, :size, :size]
    losses = taught(distillation(student, scaled, OBJECTS))
    assert set(losses) >= {f"distill_{kind}" for kind in EVERYTHING}
    for kind, loss in losses.items():
        assert float(loss.detach()) > 0, kind
    assert gradient(torch.stack(list(losses.values())).sum(), student) > 0
    assert all(each.grad is None for each in teacher.reference.parameters())


def test_an_exported_teacher_teaches_the_same(
    teacher_file: Path, exported_teacher: Path, images: Tensor
) -> None:
    student = tiny_detector().eval()
    weights = {"logits": 1.0, "boxes": 1.0}
    ours, theirs = (
        taught(
            Distillation(student, open_teacher(path, CLASSES), weights=weights)(
                student, images, OBJECTS
            )
        )
        for path in (teacher_file, exported_teacher)
    )
    assert set(ours) - set(theirs) == {"distill_offsets"}
    for name, loss in theirs.items():
        assert loss.item() == pytest.approx(ours[name].item(), rel=0.01), name


@pytest.mark.parametrize("kind", ["logits", "boxes"])
@pytest.mark.parametrize("name", ["retinanet_snet", "yolov3"])
def test_a_student_comes_to_see_what_the_teacher_sees(
    name: str,
    kind: str,
    images: Tensor,
    answering: Callable[..., Teacher],
    small_detector: Callable[..., Detector],
) -> None:
    """Of another family, without any label: in a few steps it finds the teacher's box."""
    boxes = torch.tensor([[[8.0, 8, 40, 40]], [[20.0, 20, 60, 56]], [[4.0, 30, 36, 62]]])
    scores = torch.tensor([[[0.95, 0.0]], [[0.0, 0.95]], [[0.95, 0.0]]])
    student = small_detector(name, classes=CLASSES)
    distillation = Distillation(student, answering(boxes, scores), weights={kind: 1.0})
    nothing = Targets(torch.zeros(3, 1, 4), torch.full((3, 1), -1))
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    history = []
    for _ in range(12):
        loss = taught(distillation(student, images, nothing))[f"distill_{kind}"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.6 * history[0]


# --- runs ---


@pytest.fixture
def with_teacher(quick: Recipe, teacher_file: Path) -> Recipe:
    """Features through adapters, and logits."""
    return replace(
        quick, teacher=str(teacher_file), distill=("logits", "features"), distill_weights=(1.0, 0.5)
    )


def wide_detector(seed: int = 0) -> Detector:
    """Other channels than the teacher's, so that there are adapters."""
    from flyweight.models.detectors.zoo import build

    torch.manual_seed(seed)
    return build("ssdlite320_mobilenet_v1", classes=CLASSES, size=64, width=0.5)


def test_interrupted_and_resumed_is_uninterrupted(
    with_teacher: Recipe,
    teacher_file: Path,
    train_set: DetectionDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the run says who taught, and leaves a plain checkpoint."""
    whole = wide_detector()
    result = train(whole, train_set, None, with_teacher, tmp_path / "whole", progress=False)
    original = TrainingStep.__call__

    def call(self: TrainingStep, batch: Any, number: int) -> Any:
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingStep, "__call__", call)
        with pytest.raises(TrainingInterrupted):
            train(wide_detector(), train_set, None, with_teacher, tmp_path / "cut", progress=False)
    resumed = wide_detector(seed=9)
    train(resumed, train_set, None, with_teacher, tmp_path / "cut", resume=True, progress=False)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    states = [
        torch.load(tmp_path / name / "resume.pt", weights_only=True)["step"]["distillation"]
        for name in ("whole", "cut")
    ]
    adapters = [name for name in states[0] if "adapters" in name]
    assert adapters
    for name in adapters:
        assert torch.equal(states[0][name], states[1][name]), name

    trained = checkpoint.load(result.best_checkpoint)
    assert trained.state_dict().keys() == wide_detector().state_dict().keys()
    lineage = trained.lineage["teacher"]
    assert lineage["name"] == teacher_file.name
    assert lineage["distilled"] == ["features", "logits"]
    assert lineage["sha256"] == hashlib.sha256(teacher_file.read_bytes()).hexdigest()
    row = RunFolder(tmp_path / "whole").read_metrics()[0]
    parts = ("box", "class", "distill_logits", "distill_offsets", "distill_features")
    assert row["loss"] == pytest.approx(sum(row[f"loss_{part}"] for part in parts))


def test_another_teacher_is_not_gone_on_with(with_teacher: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    checkpoint.save(confident_detector(seed=5), path)
    ours = make_distillation(wide_detector(), with_teacher)
    others = make_distillation(wide_detector(), replace(with_teacher, teacher=str(path)))
    assert ours is not None
    assert others is not None
    ours.load_state_dict(ours.state_dict())
    with pytest.raises(InputError, match="another teacher"):
        others.load_state_dict(ours.state_dict())


def test_without_a_teacher_there_is_nothing(quick: Recipe, with_teacher: Recipe) -> None:
    assert make_distillation(tiny_detector(), quick) is None
    found = make_distillation(wide_detector(), with_teacher)
    assert found is not None
    assert found.weights == {"logits": 1.0, "features": 0.5}
    again = make_distillation(wide_detector(seed=4), with_teacher)
    assert again is not None
    for ours, theirs in zip(found.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(InputError, match="compiled"):
        make_distillation(wide_detector(), replace(with_teacher, compile=True))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("distill", ("logit",)),
        ("distill_weights", (1.0, 2.0)),
        ("distill_temperature", 0.0),
        ("distill_score", 1.5),
    ],
)
def test_values_out_of_range_name_their_field(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field.rstrip("s")):
        Recipe.from_dict({field: value})
