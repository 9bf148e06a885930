"""What rules look at, and how they find the price of a change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import TYPE_CHECKING, Any

from flyweight.core.errors import InputError
from flyweight.models.backbones import BACKBONES
from flyweight.models.detectors.config import Config, field_names
from flyweight.profiling.advice.advice import Price, price_of
from flyweight.profiling.config_cost import cost_of
from flyweight.profiling.latency_model import LatencyModel
from flyweight.profiling.operation import NetworkCost, Operation

if TYPE_CHECKING:
    from flyweight.data.records import DetectionDataset

# Widths in these steps, found in so many traces.
WIDTH_GRID, WIDTH_STEPS = 0.05, 4

# From a network to the operations that break a rule, in order.
Find = Callable[["Context"], Sequence[Operation]]


@dataclass(frozen=True)
class Target:
    """What the network is made for.

    Attributes:
        runtime: "onnxruntime", "openvino" or "torch".
        precision: "fp32" or "int8".
        batch_size: images of one training step on one device; None where nobody has said.
    """

    runtime: str = "onnxruntime"
    precision: str = "fp32"
    batch_size: int | None = None


@dataclass(frozen=True)
class Context:
    """A network under advice.

    Attributes:
        cost: its operations.
        config: of the detector; without it no change can be rebuilt or applied.
        latency: predicts milliseconds.
        dataset: what the detector is to find.
        target: what it is made for.
        cost_of: traces a config.
    """

    cost: NetworkCost
    config: Config | None = None
    latency: LatencyModel | None = None
    dataset: DetectionDataset | None = None
    target: Target = Target()
    cost_of: Callable[[Config], NetworkCost] = cost_of

    def has(self, *fields: str) -> bool:
        """Whether the detector's config has all these fields."""
        return self.config is not None and field_names(type(self.config)).issuperset(fields)

    def changed(self, fields: Mapping[str, Any]) -> Context | None:
        """The context of the changed config; None where no network can be made of it."""
        if self.config is None:
            return None
        config = changed_config(self.config, fields)
        try:
            return replace(self, config=config, cost=self.cost_of(config))
        except InputError:
            return None

    def milliseconds(self, cost: NetworkCost) -> tuple[float, ...] | None:
        """Predicted, of each operation; None without a model of the device."""
        return None if self.latency is None else tuple(self.latency.predict(cost).by_operation)


def context_of(config: Config, **others: Any) -> Context:
    """The context of a config, traced."""
    trace: Callable[[Config], NetworkCost] = others.get("cost_of", cost_of)
    return Context(cost=trace(config), config=config, **others)


def changed_config(config: Config, fields: Mapping[str, Any]) -> Config:
    """A config with some fields changed."""
    changed: Any = replace(config, **fields)
    return changed


def cure(
    context: Context, find: Find, fields: Mapping[str, Any]
) -> tuple[dict[str, Any], Price] | None:
    """A change of the config and what it saves, if in the network that it makes `find` finds none.

    The saving is the difference of two traces, of the config as it is and as it would be.
    """
    changed = context.changed(fields)
    if changed is None or context.config is None or find(changed):
        return None
    before = price_of(context.cost_of(context.config), context.latency)
    return dict(fields), before - price_of(changed.cost, context.latency)


def repriced(context: Context, replaced: Mapping[int, Sequence[Operation]]) -> Price:
    """What is saved where some operations of the network are others, or none.

    Args:
        replaced: index of an operation to what takes its place. Nothing around it changes, so this
            is the price of the operations, not of a network that could be run.
    """
    before = price_of(context.cost, context.latency)
    operations: list[Operation] = []
    position: dict[int, int] = {-1: -1}
    for index, operation in enumerate(context.cost.operations):
        inputs = tuple(position[each] for each in operation.inputs)
        new = replaced.get(index, (operation,))
        for each in new:
            operations.append(replace(each, inputs=inputs))
            inputs = (len(operations) - 1,)
        # what reads an operation that is gone reads what that one read
        position[index] = inputs[0] if inputs else -1
    outputs = tuple(position[each] for each in context.cost.outputs)
    after = replace(context.cost, operations=tuple(operations), outputs=outputs)
    return before - price_of(after, context.latency)


def other_backbone(config: Config, name: str, *, width: float | None = None) -> dict[str, Any]:
    """The fields that give a config another backbone, without what only the old one can take."""
    taken = signature(BACKBONES[name]).parameters
    options = tuple(pair for pair in config.backbone_options if pair[0] in taken)
    fields: dict[str, Any] = {"backbone": name, "backbone_options": options}
    if "reduced_tail" in field_names(type(config)):
        fields["reduced_tail"] = False
    if width is not None:
        fields["width"] = width
    unchanged = [key for key, value in fields.items() if getattr(config, key) == value]
    return {key: value for key, value in fields.items() if key not in unchanged}


def equally_heavy(context: Context, name: str, *, most_width: float = 2.0) -> dict[str, Any] | None:
    """The fields that give the detector another backbone, of a width for about as many MACs.

    MACs grow with the square of the width but for what does not depend on it, so a few steps of
    √(wanted/had) come near. None where the backbone does not fit.
    """
    if context.config is None:
        return None
    width, fields = context.config.width, None
    for _ in range(WIDTH_STEPS):
        width = min(most_width, max(WIDTH_GRID, round(width / WIDTH_GRID) * WIDTH_GRID))
        fields = other_backbone(context.config, name, width=round(width, 4))
        changed = context.changed(fields)
        if changed is None:
            return None
        width *= math.sqrt(context.cost.macs / max(changed.cost.macs, 1))
    return fields


def listed_layers(operations: Sequence[Operation]) -> tuple[str, ...]:
    """Names of layers, each once, in the order in which they run first."""
    return tuple(dict.fromkeys(operation.layer for operation in operations))
