"""Small and factorised kernels: depthwise separable, 5×1·1×5 for 5×5, 1×1 towers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flyweight.profiling.advice.advice import Advice
from flyweight.profiling.advice.context import Context, cure, listed_layers, repriced
from flyweight.profiling.advice.convolution import (
    channels,
    convolutions,
    factorised_like,
    geometry_of,
    part_of,
    separable_like,
)
from flyweight.profiling.operation import Operation

FACTORISED, SEPARABLE, POINTWISE = "factorised_kernels", "separable_convolutions", "pointwise_head"
FACTORISED_SOURCE = (
    "Szegedy et al. 2016 (Inception-v3), section 3.2, https://arxiv.org/abs/1512.00567: 2·k "
    "weights in place of k²"
)
SEPARABLE_SOURCE = (
    "Howard et al. 2017 (MobileNets), section 3.1, https://arxiv.org/abs/1704.04861: 1/C + 1/k² "
    "of the MACs"
)
POINTWISE_SOURCE = (
    "MobileNet-SSD and the slim RetinaNet for documents predict with 1×1 convolutions: the layers "
    "before have looked around already"
)
LARGE_KERNEL = 5
# Of all MACs: lighter layers are not worth changing.
HEAVY = 0.02


def factorised_kernels(context: Context) -> list[Advice]:
    """Dense 5×5 convolutions and larger, but for the first layer (see `first_layer`)."""
    found = [
        (index, operation)
        for index, operation in _dense(context)
        if min(geometry_of(operation).kernel_hw) >= LARGE_KERNEL and operation.inputs != (-1,)
    ]
    if not found:
        return []
    names = listed_layers([operation for _, operation in found])
    largest = max(geometry_of(operation).kernel_hw[0] for _, operation in found)
    finding = f"{len(names)} dense convolutions of up to {largest}×{largest}"
    change = f"take {largest}×1 and 1×{largest}, one after the other"
    saving = repriced(context, {index: factorised_like(operation) for index, operation in found})
    return [Advice(FACTORISED, finding, change, FACTORISED_SOURCE, names, saving)]


def separable_convolutions(context: Context) -> list[Advice]:
    """Dense 3×3 convolutions with much of the work; one advice for each part of the detector."""
    advice = []
    for part in ("backbone", "neck", "head"):
        find = _heavy_in(part)
        found = find(context)
        if not found:
            continue
        names = listed_layers(found)
        share = sum(each.macs for each in found) / max(context.cost.macs, 1)
        finding = f"{len(names)} dense convolutions of the {part} make {share:.0%} of all MACs"
        changes = _separable_fields(context, part)
        offered = next((each for fields in changes if (each := cure(context, find, fields))), None)
        if offered is not None:
            shown = ", ".join(f"{key}={value}" for key, value in offered[0].items())
            change = f"make them depthwise separable: {shown}"
            saving, fields = offered[1], offered[0]
        else:
            change = "make them depthwise separable"
            chosen = {id(each) for each in found}
            pairs = [pair for pair in convolutions(context.cost) if id(pair[1]) in chosen]
            saving, fields = repriced(context, {i: separable_like(each) for i, each in pairs}), {}
        advice.append(Advice(SEPARABLE, finding, change, SEPARABLE_SOURCE, names, saving, fields))
    return advice


def pointwise_head(context: Context) -> list[Advice]:
    """3×3 towers and predictors where 1×1 would do."""
    for field, wide, narrow in (("tower_kernel", 3, 1), ("head", "conv3x3", "conv1x1")):
        if not context.has(field) or getattr(context.config, field) != wide:
            continue
        found = _wide_head(context)
        offered = cure(context, _wide_head, {field: narrow}) if found else None
        if offered is not None:
            names = listed_layers(found)
            finding = f"{len(names)} convolutions of the head look around once more"
            change = f"set {field} to {narrow}: it sees less, so compare the receptive fields"
            return [
                Advice(POINTWISE, finding, change, POINTWISE_SOURCE, names, offered[1], offered[0])
            ]
    return []


def _dense(context: Context) -> list[tuple[int, Operation]]:
    return [
        (index, operation)
        for index, operation in convolutions(context.cost)
        if geometry_of(operation).groups == 1 and max(geometry_of(operation).kernel_hw) > 1
    ]


def _heavy_in(part: str) -> Callable[[Context], Sequence[Operation]]:
    def find(context: Context) -> Sequence[Operation]:
        return [
            operation
            for _, operation in _dense(context)
            if part_of(operation) == part
            and operation.macs >= HEAVY * context.cost.macs
            and channels(operation)[0] > 3
        ]

    return find


def _wide_head(context: Context) -> Sequence[Operation]:
    return [
        operation
        for _, operation in convolutions(context.cost)
        if part_of(operation) == "head" and max(geometry_of(operation).kernel_hw) > 1
    ]


def _separable_fields(context: Context, part: str) -> Iterator[dict[str, Any]]:
    """Changes of the config that make a part depthwise separable, the smallest first."""
    by_part: dict[str, tuple[dict[str, Any], ...]] = {
        "backbone": (),
        "neck": ({"neck_separable": True}, {"separable_extras": True}, {"separable": True}),
        "head": ({"tower_separable": True}, {"head": "separable"}, {"separable": True}),
    }
    yield from (fields for fields in by_part[part] if context.has(*fields))
