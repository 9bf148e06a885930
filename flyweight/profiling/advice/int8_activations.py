"""h-swish and squeeze-and-excitation on int8 runtimes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from flyweight.profiling.advice.advice import Advice
from flyweight.profiling.advice.context import (
    Context,
    cure,
    equally_heavy,
    listed_layers,
    repriced,
)
from flyweight.profiling.operation import NetworkCost, Operation

RULE = "int8_activations"
SOURCE = (
    "EfficientNet-Lite, https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/"
    "lite: without squeeze-and-excitation and with ReLU6 for swish, for int8 and edge devices"
)
UNBOUNDED = ("hardswish", "silu", "mish")
GATES = ("hardsigmoid", "sigmoid")
PLAIN_ACT = "relu6"
# With gates or swish in its blocks, to what has neither.
PLAIN = {
    "mobilenet_v3_large": "mobilenet_v2",
    "mobilenet_v3_small": "mobilenet_v2",
    "ghostnet": "mobilenet_v2",
}


def int8_activations(context: Context) -> list[Advice]:
    """Activations whose range a quantiser has to guess, and gates that leave int8 and come back."""
    if context.target.precision != "int8":
        return []
    found = _fragile(context)
    if not found:
        return []
    operations = [context.cost.operations[index] for index in found]
    names, kinds = listed_layers(operations), sorted({each.kind for each in operations})
    finding = (
        f"{len(names)} operations ({', '.join(kinds)}) that int8 runtimes compute in float or "
        "round coarsely"
    )
    for fields in _changes(context):
        offered = cure(context, _operations, fields)
        if offered is not None:
            shown = ", ".join(f"{key} {value}" for key, value in fields.items() if value)
            change = f"take {shown}"
            return [Advice(RULE, finding, change, SOURCE, names, offered[1], offered[0])]
    change = "take ReLU6 and leave the gates out; the price is that of all of them"
    saving = repriced(context, {index: () for index in found})
    return [Advice(RULE, finding, change, SOURCE, names, saving)]


def _operations(context: Context) -> Sequence[Operation]:
    return [context.cost.operations[index] for index in _fragile(context)]


def _fragile(context: Context) -> list[int]:
    cost = context.cost
    return [
        index
        for index, operation in enumerate(cost.operations)
        if operation.kind in UNBOUNDED or _gates(cost, operation)
    ]


def _gates(cost: NetworkCost, operation: Operation) -> bool:
    """Whether a map is multiplied by one number a channel that a sigmoid gives."""
    return operation.kind == "mul" and any(
        each >= 0
        and cost.operations[each].kind in GATES
        and cost.operations[each].output_shape[2:] == (1, 1)
        for each in operation.inputs
    )


def _changes(context: Context) -> Iterator[dict[str, Any]]:
    config: Any = context.config
    if config is None:
        return
    if config.backbone in PLAIN:
        plain = equally_heavy(context, PLAIN[config.backbone])
        if plain is not None:
            yield plain
    options = dict(config.backbone_options) | {"act": PLAIN_ACT}
    fields: dict[str, Any] = {"backbone_options": tuple(options.items())}
    yield fields
    if context.has("act"):
        yield {"act": PLAIN_ACT}
        yield fields | {"act": PLAIN_ACT}
