"""Element-wise operations are not free (ShuffleNetV2, guideline G4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flyweight.profiling.advice.advice import Advice
from flyweight.profiling.advice.context import Context, cure, listed_layers, repriced
from flyweight.profiling.advice.convolution import CONVOLUTIONS
from flyweight.profiling.operation import NetworkCost, Operation

RULE = "elementwise"
SOURCE = (
    "Ma et al. 2018 (ShuffleNetV2), G4 and table 4, https://arxiv.org/abs/1807.11164: without ReLU "
    "and shortcut a bottleneck runs about a fifth faster"
)
# Clamps right behind a convolution: runtimes compute them while its results are in registers.
FUSED = ("relu", "relu6", "leaky_relu", "hardtanh")
ACTIVATIONS = ("hardswish", "silu", "mish", "sigmoid", "hardsigmoid", "softplus", "tanh")
ELEMENTWISE = (*FUSED, *ACTIVATIONS, "add", "mul")
# Of the network's bytes (or milliseconds, where they are known).
LEAST_SHARE = 0.05
CHEAP = "leaky_relu"


def elementwise(context: Context) -> list[Advice]:
    """Shortcuts, gates and activations that runtimes cannot fold into a convolution."""
    found = _standing(context)
    if not found:
        return []
    operations = [context.cost.operations[index] for index in found]
    names = listed_layers(operations)
    kinds = ", ".join(dict.fromkeys(each.kind for each in operations))
    finding = (
        f"{len(names)} element-wise operations ({kinds}) that runtimes do not fuse into a "
        f"convolution take {_share(context, found):.0%} of the "
        f"{'bytes moved' if context.latency is None else 'predicted time'} and do 0 MACs"
    )
    for fields in _cheaper_activations(context):
        offered = cure(context, lambda changed: _slow_activations(changed.cost), fields)
        if offered is not None:
            change = f"take {CHEAP}, which runtimes fuse, as activation"
            return [Advice(RULE, finding, change, SOURCE, names, offered[1], offered[0])]
    change = "leave out shortcuts and gates that a shallow network does not need; the price is that"
    change += " of all of them, the most that can be saved"
    gone = repriced(context, {index: () for index in found})
    return [Advice(RULE, finding, change, SOURCE, names, gone)]


def stands_alone(cost: NetworkCost, index: int) -> bool:
    """Whether an element-wise operation is one that no runtime fuses into the layer before it."""
    operation = cost.operations[index]
    if operation.kind not in ELEMENTWISE or len(operation.output_shape) != 4:
        return False
    before = [cost.operations[each].kind for each in operation.inputs if each >= 0]
    return not (operation.kind in FUSED and before and before[0] in CONVOLUTIONS)


def _standing(context: Context) -> list[int]:
    found = [
        index for index in range(len(context.cost.operations)) if stands_alone(context.cost, index)
    ]
    return found if _share(context, found) >= LEAST_SHARE else []


def _share(context: Context, found: Sequence[int]) -> float:
    times = context.milliseconds(context.cost)
    if times is not None:
        return sum(times[index] for index in found) / max(sum(times), 1e-9)
    moved = sum(context.cost.operations[index].access_bytes for index in found)
    return moved / max(context.cost.access_bytes, 1)


def _slow_activations(cost: NetworkCost) -> list[Operation]:
    return [
        operation
        for index, operation in enumerate(cost.operations)
        if operation.kind in ACTIVATIONS and stands_alone(cost, index)
    ]


def _cheaper_activations(context: Context) -> list[dict[str, Any]]:
    """Changes of the config that give it the cheap activation, where it can be chosen."""
    config: Any = context.config
    if config is None or not _slow_activations(context.cost):
        return []
    options = dict(config.backbone_options) | {"act": CHEAP}
    fields: dict[str, Any] = {"backbone_options": tuple(options.items())}
    if context.has("act"):
        return [fields, {"act": CHEAP}, fields | {"act": CHEAP}]
    return [fields]
