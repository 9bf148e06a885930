"""What the zoo, the checkpoints and the trainer need to know of a detector file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from flyweight.core.manifest import Thresholds
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.detectors.detector import Detector, Interpret
from flyweight.models.detectors.pruned import narrow_network
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
        network: from a config to its freshly initialised network.
        interpret: from a config and its network to the objective and the postprocessing at the
            config's input size. They hold anchors, but no weights.
        check: raises an InputError where the numbers of a config contradict each other.
        published: preprocessing and thresholds that go with the published weights of a config.
        with_anchors: a config with other anchors: of each level the (w, h), relative to the input.
        class_rows: where the classes are.
    """

    config: type[Any]
    network: Callable[[Any], nn.Module]
    interpret: Interpret
    check: Callable[[Any], None]
    published: Callable[[Any], tuple[Preprocessing, Thresholds]]
    with_anchors: Callable[[Any, BoxSizes], Any]
    class_rows: tuple[ClassRows, ...]

    @property
    def name(self) -> str:
        """The word in a checkpoint's header."""
        return str(self.config.family)

    def build(
        self,
        config: Any,
        *,
        class_names: Sequence[str],
        preprocessing: Preprocessing,
        thresholds: Thresholds | None = None,
        lineage: dict[str, Any] | None = None,
    ) -> Detector:
        """The detector of a config, freshly initialised.

        Raises:
            InputError: the numbers of the config contradict each other, or its pruned widths do.
        """
        self.check(config)
        network = self.network(config)
        if config.pruned:
            narrow_network(network, config.pruned, size_hw=config.size_hw)
        objective, postprocess = self.interpret(config, network)
        return Detector(
            config,
            model=network,
            objective=objective,
            postprocess=postprocess,
            interpret=self.interpret,
            class_names=class_names,
            preprocessing=preprocessing,
            thresholds=thresholds,
            lineage=lineage,
        )
