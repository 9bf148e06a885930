"""Many groups move more memory for the same multiplications (ShuffleNetV2, guideline G2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

from flyweight.models.layers import make_divisible
from flyweight.profiling.advice.advice import Advice
from flyweight.profiling.advice.context import (
    Context,
    cure,
    listed_layers,
    other_backbone,
    repriced,
)
from flyweight.profiling.advice.convolution import (
    channels,
    convolution_like,
    convolutions,
    geometry_of,
)
from flyweight.profiling.operation import Operation

RULE = "grouping"
SOURCE = "Ma et al. 2018 (ShuffleNetV2), G2 and table 2, https://arxiv.org/abs/1807.11164"
GROUPED_BACKBONE = "shufflenet_v1_g"


def grouping(context: Context) -> list[Advice]:
    """Convolutions in groups. Depthwise ones are no fault: nothing replaces them at their MACs."""
    found = _grouped(context)
    if not found:
        return []
    operations = [operation for _, operation in found]
    names, most = listed_layers(operations), max(geometry_of(each).groups for each in operations)
    finding = f"{len(names)} convolutions in up to {most} groups read and write more channels than "
    finding += "dense ones with as many multiplications"
    config = context.config
    if config is not None and config.backbone.startswith(GROUPED_BACKBONE):
        # Table 1 of ShuffleNet chose the channels of every number of groups for equal MACs.
        offered = cure(context, _operations, other_backbone(config, GROUPED_BACKBONE + "1"))
        if offered is not None:
            change = f"take {GROUPED_BACKBONE}1: the same network without groups, at about its MACs"
            return [Advice(RULE, finding, change, SOURCE, names, offered[1], offered[0])]
    replaced = {index: (_dense(operation),) for index, operation in found}
    change = "make them dense with √groups times fewer channels: as many MACs, fewer bytes"
    return [Advice(RULE, finding, change, SOURCE, names, repriced(context, replaced))]


def _grouped(context: Context) -> list[tuple[int, Operation]]:
    return [
        (index, operation)
        for index, operation in convolutions(context.cost)
        if geometry_of(operation).groups > 1
        # one filter a channel, also where there are several outputs a channel
        and geometry_of(operation).groups < channels(operation)[0]
    ]


def _operations(context: Context) -> Sequence[Operation]:
    return [operation for _, operation in _grouped(context)]


def _dense(operation: Operation) -> Operation:
    geometry = geometry_of(operation)
    inputs, outputs = (make_divisible(each / sqrt(geometry.groups)) for each in channels(operation))
    return convolution_like(
        operation,
        in_channels=inputs,
        out_channels=outputs,
        geometry=replace(geometry, groups=1),
    )
