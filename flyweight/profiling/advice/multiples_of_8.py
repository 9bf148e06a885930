"""Channels in multiples of 8 fill vector units; others pay for lanes that they do not use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from flyweight.models.layers import make_divisible
from flyweight.profiling.advice.advice import Advice
from flyweight.profiling.advice.context import Context, cure, listed_layers, repriced
from flyweight.profiling.advice.convolution import (
    channels,
    convolution_like,
    convolutions,
    geometry_of,
    predictors,
)
from flyweight.profiling.operation import Operation

RULE = "multiples_of_8"
SOURCE = "Sandler et al. 2018 (MobileNetV2) and its code, `_make_divisible`: channels by 8"
MULTIPLE = 8
# Of the width, what is tried to get there, nearest first.
STEPS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2)


def multiples_of_8(context: Context) -> list[Advice]:
    """Convolutions with channels that are no multiple of 8, but for the image and the outputs."""
    found = _odd(context)
    if not found:
        return []
    operations = [operation for _, operation in found]
    names = listed_layers(operations)
    widths = sorted({each for operation in operations for each in _odd_widths(operation)})
    shown = ", ".join(map(str, widths[:6])) + (" ..." if len(widths) > 6 else "")
    finding = f"{len(names)} convolutions have {shown} channels, no multiples of 8"
    for fields in _changes(context):
        offered = cure(context, _operations, fields)
        if offered is not None:
            change = "set " + ", ".join(f"{key} to {value}" for key, value in fields.items())
            return [Advice(RULE, finding, change, SOURCE, names, offered[1], offered[0])]
    replaced = {index: (_rounded(operation),) for index, operation in found}
    change = "round their channels up: more MACs, but in lanes that are paid for already"
    return [Advice(RULE, finding, change, SOURCE, names, repriced(context, replaced))]


def _odd(context: Context) -> list[tuple[int, Operation]]:
    final = predictors(context.cost)
    return [
        (index, operation)
        for index, operation in convolutions(context.cost)
        if index not in final and _odd_widths(operation)
    ]


def _operations(context: Context) -> Sequence[Operation]:
    return [operation for _, operation in _odd(context)]


def _odd_widths(operation: Operation) -> list[int]:
    before, after = channels(operation)
    # The image has three channels, whatever the network.
    counted = (after,) if before == 3 else (before, after)
    return [each for each in counted if each % MULTIPLE]


def _rounded(operation: Operation) -> Operation:
    before, after = (math.ceil(each / MULTIPLE) * MULTIPLE for each in channels(operation))
    geometry = geometry_of(operation)
    if operation.depthwise:
        return convolution_like(
            operation,
            in_channels=after,
            out_channels=after,
            geometry=replace(geometry, groups=after),
        )
    if channels(operation)[0] == 3:
        before = 3
    return convolution_like(operation, in_channels=before, out_channels=after)


def _changes(context: Context) -> Iterator[dict[str, Any]]:
    """Changes of the config that may help, the smallest first."""
    config: Any = context.config
    if config is None:
        return
    if context.has("extras"):
        yield _even_extras(config, config.width)
    for step in STEPS:
        for width in (config.width * (1 + step), config.width * (1 - step)):
            fields: dict[str, Any] = {"width": round(width, 4)}
            if context.has("extras"):
                fields |= _even_extras(config, fields["width"])
            yield fields


def _even_extras(config: Any, width: float) -> dict[str, Any]:
    """SSD's extra levels in multiples of 16 at a width: their first halves have half as many."""
    wanted = (make_divisible(each * width, 2 * MULTIPLE) for each in config.extras)
    extras = tuple(math.ceil(each / width) for each in wanted)
    return {} if extras == config.extras else {"extras": extras}
