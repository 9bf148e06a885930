"""What the zoo, the checkpoints and the trainer need to know of a detector file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from flyweight.core.manifest import Thresholds
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.detectors.detector import Detector
from flyweight.models.ops.anchors import BoxSizes


@dataclass(frozen=True)
class ClassRows:
    """Tensors of a detector whose rows belong to classes.

    Their first dimension is K·(S + C)·D: K predictors in a cell, S rows that are no class's
    (background, objectness, box), C classes, D rows a class.

    Attributes:
        pattern: regular expression found in the tensors' names.
        shared: S.
        per_class: D.
    """

    pattern: str
    shared: int
    per_class: int = 1

    def view(self, tensor: Tensor, num_classes: int) -> Tensor:
        """`tensor [K * (S + C) * D, ...]` as `[K, S + C, D, ...]`."""
        return tensor.view(-1, self.shared + num_classes, self.per_class, *tensor.shape[1:])


@dataclass(frozen=True)
class Family:
    """One kind of detector, such as SSD.

    Attributes:
        config: its config class.
        build: from a config and `class_names`, `preprocessing`, `thresholds`, `lineage` to a
            freshly initialised detector.
        check: raises an InputError where the numbers of a config contradict each other.
        published: preprocessing and thresholds that go with the published weights of a config.
        with_anchors: a config with other anchors: of each level the (w, h), relative to the input.
        class_rows: where the classes are.
    """

    config: type[Any]
    build: Callable[..., Detector]
    check: Callable[[Any], None]
    published: Callable[[Any], tuple[Preprocessing, Thresholds]]
    with_anchors: Callable[[Any, BoxSizes], Any]
    class_rows: tuple[ClassRows, ...]

    @property
    def name(self) -> str:
        """The word in a checkpoint's header."""
        return str(self.config.family)
