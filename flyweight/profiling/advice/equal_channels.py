"""Equal input and output channels cost the least memory access (ShuffleNetV2, guideline G1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from flyweight.models.layers import make_divisible
from flyweight.profiling.advice.advice import Advice, Price
from flyweight.profiling.advice.context import (
    Context,
    cure,
    equally_heavy,
    listed_layers,
    repriced,
)
from flyweight.profiling.advice.convolution import (
    cells,
    channels,
    convolution_like,
    convolutions,
    geometry_of,
    part_of,
    predictors,
)
from flyweight.profiling.operation import FLOAT_BYTES, Operation

RULE = "equal_channels"
SOURCE = "Ma et al. 2018 (ShuffleNetV2), G1 and table 1, https://arxiv.org/abs/1807.11164"
# Bytes over those of equal channels with as many multiplications. At the 1:6 of an inverted
# residual the activations alone are 3.5/√6 = 1.43 times as many; at 1:2 1.06 times.
WASTE = 1.25
# Of the network's bytes, what all such layers could save: less is not worth a line.
LEAST_SHARE = 0.02
# It is made of pointwise convolutions that keep their channels.
EQUAL_BACKBONE = "shufflenet_v2"


def equal_channels(context: Context) -> list[Advice]:
    """Pointwise convolutions whose channels differ so much that moving them costs extra."""
    found = _unequal(context)
    if not found:
        return []
    names = listed_layers([operation for _, operation in found])
    widest = max(_ratio(operation) for _, operation in found)
    finding = (
        f"{len(names)} pointwise convolutions change the number of channels up to {widest:.1f} "
        "times: they move more bytes than equal channels would for as many multiplications"
    )
    offered = _other_backbone(context, found)
    if offered is not None:
        fields, saving = offered
        change = (
            f"take {EQUAL_BACKBONE} at width {_width(context, fields):g}, whose pointwise "
            "convolutions keep their channels, for about as many MACs"
        )
        return [Advice(RULE, finding, change, SOURCE, names, saving, fields)]
    replaced = {index: (_equalised(operation),) for index, operation in found}
    change = "give them the geometric mean of their channels on both sides: as many MACs"
    return [Advice(RULE, finding, change, SOURCE, names, repriced(context, replaced))]


def least_bytes(operation: Operation) -> float:
    """Bytes of a pointwise convolution of as many MACs with equal channels: equation 1, in bytes
    and for a batch of one, 4·(2·√(cells·MACs) + MACs/cells)."""
    return FLOAT_BYTES * (2 * sqrt(cells(operation) * operation.macs)) + FLOAT_BYTES * (
        operation.macs / cells(operation)
    )


def _unequal(context: Context) -> list[tuple[int, Operation]]:
    final = predictors(context.cost)
    found = [
        (index, operation)
        for index, operation in convolutions(context.cost)
        if index not in final
        and geometry_of(operation).kernel_hw == (1, 1)
        and geometry_of(operation).groups == 1
        and cells(operation) > 1  # the gates of squeeze-and-excitation move next to nothing
        and operation.access_bytes > WASTE * least_bytes(operation)
    ]
    saved = sum(each.access_bytes - least_bytes(each) for _, each in found)
    return found if saved >= LEAST_SHARE * context.cost.access_bytes else []


def _operations(context: Context) -> Sequence[Operation]:
    return [operation for _, operation in _unequal(context)]


def _ratio(operation: Operation) -> float:
    before, after = channels(operation)
    return max(before, after) / min(before, after)


def _equalised(operation: Operation) -> Operation:
    before, after = channels(operation)
    width = make_divisible(sqrt(before * after))
    return convolution_like(operation, in_channels=width, out_channels=width)


def _other_backbone(
    context: Context, found: Sequence[tuple[int, Operation]]
) -> tuple[dict[str, Any], Price] | None:
    """The equal backbone of about as many MACs, if most of the waste is the backbone's."""
    if context.config is None or context.config.backbone == EQUAL_BACKBONE:
        return None
    inside = sum(part_of(operation) == "backbone" for _, operation in found)
    if 2 * inside < len(found):
        return None
    fields = equally_heavy(context, EQUAL_BACKBONE)
    return None if fields is None else cure(context, _operations, fields)


def _width(context: Context, fields: Mapping[str, Any]) -> float:
    return float(fields.get("width", getattr(context.config, "width", 1.0)))
