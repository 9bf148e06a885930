"""A teacher: a frozen detector that sees the student's own batch, whatever file it comes from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from flyweight.core.errors import InputError
from flyweight.core.file_digest import file_sha256
from flyweight.core.manifest import CHECKPOINT_SUFFIX
from flyweight.data.class_mapping import map_classes
from flyweight.models.detectors import checkpoint
from flyweight.models.detectors.detector import Detector
from flyweight.runtime.load import EXPORTED_SUFFIXES, open_session
from flyweight.runtime.predictor import stack_inputs
from flyweight.runtime.session import DENSE_OUTPUTS, Session
from flyweight.training.multi_scale import resize

# B images, N rows (anchors, or detections) of the teacher, C classes, D channels of a level


@dataclass(frozen=True)
class Answer:
    """What a teacher says of a batch.

    Attributes:
        boxes_xyxy: `[B, N, 4]`, pixels of the student's input.
        scores: `[B, N, C]`, 0 to 1, in the order of the student's classes.
        dense: whether rows are the anchors of the teacher's own grid, none left out.
        raw: its raw outputs; None of an exported file.
        levels: what its neck gave, `[B, D, H, W]` each; empty where nobody asked.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    dense: bool = True
    raw: Any = None
    levels: tuple[Tensor, ...] = ()


# Inputs of the teacher's own size, uint8 or float [B, h, w, 3], to its answer in its own pixels and
# classes.
Run = Callable[[Tensor], Answer]


class Teacher:
    """Answers of a frozen detector in the student's pixels and classes.

    It sees the student's batch as it is, augmented; where its own input has another size the batch
    is stretched to that, and its boxes are scaled back.

    Attributes:
        name: its file's.
        sha256: of its file, hexadecimal.
        reference: the detector, or one of the same architecture where the file is exported: what
            its rows and anchors are.
        has_weights: whether `reference` is the detector itself, not just its architecture.
        size_hw: of its input.
        columns: of each of the student's classes the teacher's that mean it.
    """

    def __init__(
        self,
        path: Path,
        *,
        reference: Detector,
        run: Run,
        has_weights: bool,
        classes: Sequence[str],
    ) -> None:
        labels = map_classes(
            reference.class_names,
            classes,
            where=os.fspath(path),
            fix="take a teacher of the same classes, or rename the classes of the data",
        )
        self.name = path.name
        self.sha256 = file_sha256(path)
        self.reference = reference
        self.has_weights = has_weights
        self.size_hw = reference.preprocessing.size_hw
        self.columns = tuple(np.flatnonzero(labels == c).tolist() for c in range(len(classes)))
        self._run = run

    # Not inference mode: its tensors may not be kept for a backward pass, and the student's
    # gradient is made of the teacher's answers.
    @torch.no_grad()
    def __call__(self, images: Tensor) -> Answer:
        """The answer to `images [B, H, W, 3]`, RGB 0 to 255, uint8 or float, of any size."""
        height, width = images.shape[1:3]
        same_size = (height, width) == self.size_hw
        own = self._run(images if same_size else resize(images, self.size_hw))
        scale = [width / self.size_hw[1], height / self.size_hw[0]] * 2
        return Answer(
            own.boxes_xyxy.float() * own.boxes_xyxy.new_tensor(scale),
            self._in_students_order(own.scores.float()),
            own.dense,
            own.raw,
            own.levels,
        )

    @property
    def one_to_one(self) -> bool:
        """Whether each of the student's classes is one of the teacher's."""
        return all(len(columns) == 1 for columns in self.columns)

    def _in_students_order(self, scores: Tensor) -> Tensor:
        """`[..., teacher's classes]` as `[..., C]`: of several names for one thing the highest."""
        if self.one_to_one:
            return scores[..., [column for (column,) in self.columns]]
        return torch.stack([scores[..., columns].amax(-1) for columns in self.columns], dim=-1)


def open_teacher(
    path: str | os.PathLike[str],
    classes: Sequence[str],
    *,
    device: torch.device | str = "cpu",
    levels: bool = False,
    threads: int | None = None,
) -> Teacher:
    """The teacher in a file, for a student of `classes`.

    Args:
        path: a checkpoint, or an exported file.
        device: of a checkpoint; exported files run on the CPU.
        levels: whether the levels of its neck are wanted.
        threads: of an exported file; as many as torch has by default.

    Raises:
        InputError: the file cannot be used, lacks a class, or has no levels that could be seen.
    """
    file = Path(path)
    if file.suffix == CHECKPOINT_SUFFIX:
        detector = checkpoint.load(file, device=device).requires_grad_(False)
        detector.to(memory_format=torch.channels_last)
        run = _torch_run(detector, levels=levels)
        return Teacher(file, reference=detector, run=run, has_weights=True, classes=classes)
    if file.suffix.lower() not in EXPORTED_SUFFIXES:
        raise InputError(
            "this file is no teacher",
            where=file,
            fix=f"give a checkpoint ({CHECKPOINT_SUFFIX}) or an exported file "
            f"({', '.join(EXPORTED_SUFFIXES)})",
        )
    if levels:
        raise InputError(
            "an exported file shows its outputs, not the features within",
            where=file,
            fix="distil logits or boxes from it, or take its checkpoint as teacher",
        )
    session = open_session(file, threads=threads or torch.get_num_threads())
    reference = checkpoint.rebuild(session.manifest, where=file)
    run = _exported_run(session, num_classes=len(reference.class_names))
    return Teacher(file, reference=reference, run=run, has_weights=False, classes=classes)


@contextmanager
def watched(module: nn.Module) -> Iterator[list[Tensor]]:
    """Within it, the levels that `module` gives appear in the list that this yields."""
    seen: list[Tensor] = []
    hook = module.register_forward_hook(lambda _, __, levels: seen.extend(levels))
    try:
        yield seen
    finally:
        hook.remove()


def neck_of(detector: Detector) -> Any:
    """What gives the levels that the head looks at; it has a `feature_info`."""
    return detector.model.neck


def _torch_run(detector: Detector, *, levels: bool) -> Run:
    _, postprocess = detector.interpretation(detector.preprocessing.size_hw)

    def run(images: Tensor) -> Answer:
        inputs = detector.normalise(images)
        if not levels:
            raw = detector.model(inputs)
            return Answer(*postprocess.decode(raw), raw=raw)
        with watched(neck_of(detector)) as seen:
            raw = detector.model(inputs)
        return Answer(*postprocess.decode(raw), raw=raw, levels=tuple(seen))

    return run


def _exported_run(session: Session, *, num_classes: int) -> Run:
    dense = session.outputs == DENSE_OUTPUTS

    def run(images: Tensor) -> Answer:
        pixels = images.round().to(torch.uint8).cpu().numpy()
        step = session.batch or len(pixels)
        parts = []
        for start in range(0, len(pixels), step):
            part = pixels[start : start + step]
            outputs = session.run(stack_inputs(list(part), step))
            # a session may overwrite its outputs in the next run
            parts.append([torch.from_numpy(np.array(each[: len(part)])) for each in outputs])
        joined = [torch.cat(each).to(images.device) for each in zip(*parts, strict=True)]
        if dense:
            boxes, scores = joined
            return Answer(boxes, scores)
        boxes, scores, labels, count = joined
        columns = _one_column(scores, labels, count, num_classes=num_classes)
        return Answer(boxes, columns, dense=False)

    return run


def _one_column(scores: Tensor, labels: Tensor, count: Tensor, *, num_classes: int) -> Tensor:
    """Detections' `scores [B, K]`, of which the first `count [B]` are any, as `[B, K, C]`."""
    there = torch.arange(scores.shape[1], device=scores.device) < count.view(-1, 1)
    one_hot = functional.one_hot(labels.long().clamp(min=0), num_classes)
    return (scores * there).unsqueeze(-1) * one_hot
