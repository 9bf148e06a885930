"""The stride schedule and the last map against the input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from flyweight.profiling.advice.advice import Advice, Price
from flyweight.profiling.advice.context import Context, cure, listed_layers, repriced
from flyweight.profiling.advice.convolution import convolution_like, convolutions, geometry_of
from flyweight.profiling.advice.levels import Level, levels_of
from flyweight.profiling.operation import Operation

LAST_MAP, SCHEDULE = "last_map", "stride_schedule"
SOURCE = (
    "the usual schedule, input r to a last map of r/2ⁿ = 3 to 9 cells (He et al. 2016, table 1: "
    "224 to 7): larger maps stay local, smaller ones lose what was in them"
)
SCHEDULE_SOURCE = (
    "Iandola et al. 2016 (SqueezeNet), section 3.1, and He et al. 2016, table 1: strides 2 and 4 "
    "come first, since a layer at stride 2 costs 16 times one at stride 8"
)
FEWEST_CELLS, MOST_CELLS = 3, 9
# Of all MACs at strides 1 and 2; in a ResNet-18 it is 7 %, in a MobileNetV2 19 %.
MOST_EARLY = 0.3


def last_map(context: Context) -> list[Advice]:
    """The coarsest level that the head looks at has 3 to 9 cells a side."""
    levels = levels_of(context)
    if not levels:
        return []
    if max(levels[-1].grid) > MOST_CELLS:
        return _too_fine(context, levels)
    return _too_coarse(context, levels) if min(levels[-1].grid) < FEWEST_CELLS else []


def stride_schedule(context: Context) -> list[Advice]:
    """Most multiplications lie behind the first strides."""
    early = [
        (index, operation)
        for index, operation in convolutions(context.cost)
        if operation.stride is not None and operation.stride <= 2
    ]
    share = sum(operation.macs for _, operation in early) / max(context.cost.macs, 1)
    if share <= MOST_EARLY:
        return []
    names = listed_layers([operation for _, operation in early])
    finding = f"{len(names)} layers at strides 1 and 2 make {share:.0%} of all multiplications"
    change = "give the first of them stride 2 more: the others' maps are a quarter"
    replaced = {index: (_at_half_size(operation),) for index, operation in early}
    saving = repriced(context, replaced)
    return [Advice(SCHEDULE, finding, change, SCHEDULE_SOURCE, names, saving)]


def _at_half_size(operation: Operation) -> Operation:
    batch, channels, rows, columns = operation.input_shapes[0]
    if channels == 3:  # the first layer: it is the one whose stride grows
        geometry = geometry_of(operation)
        doubled = (2 * geometry.stride_hw[0], 2 * geometry.stride_hw[1])
        return convolution_like(
            operation, geometry=replace(geometry, stride_hw=doubled), output_hw=_half(operation)
        )
    smaller = replace(
        operation, input_shapes=((batch, channels, (rows + 1) // 2, (columns + 1) // 2),)
    )
    return convolution_like(smaller, output_hw=_half(operation))


def _half(operation: Operation) -> tuple[int, int]:
    rows, columns = operation.output_shape[-2:]
    return (rows + 1) // 2, (columns + 1) // 2


def _too_coarse(context: Context, levels: Sequence[Level]) -> list[Advice]:
    small = [level for level in levels if min(level.grid) < FEWEST_CELLS]
    names = listed_layers([context.cost.operations[each] for level in small for each in level.ends])
    shown = ", ".join(f"{rows}×{columns}" for rows, columns in (level.grid for level in small))
    finding = f"{len(small)} of {len(levels)} levels have fewer than {FEWEST_CELLS} cells a side: "
    finding += shown
    for fields in _without_last(context, len(small)):
        offered = cure(context, _far_from_usual, fields)
        if offered is not None:
            change = "leave them out and give their boxes to the last level that stays"
            return [Advice(LAST_MAP, finding, change, SOURCE, names, offered[1], offered[0])]
    change = "take a larger input or fewer levels; no single field does"
    return [Advice(LAST_MAP, finding, change, SOURCE, names, Price(0, 0, 0), serves="accuracy")]


def _too_fine(context: Context, levels: Sequence[Level]) -> list[Advice]:
    rows, columns = levels[-1].grid
    names = listed_layers([context.cost.operations[each] for each in levels[-1].ends])
    finding = (
        f"the coarsest level has {rows}×{columns} cells: no level has the picture in a few cells"
    )
    fields = _one_more(context)
    offered = None if fields is None else cure(context, _far_from_usual, fields)
    if offered is not None and fields is not None:
        change = "add a coarser level, with boxes twice as large as the last one's"
        advice = Advice(LAST_MAP, finding, change, SOURCE, names, offered[1], offered[0])
        return [replace(advice, serves="accuracy")]
    change = "take a smaller input, or add a level"
    return [Advice(LAST_MAP, finding, change, SOURCE, names, Price(0, 0, 0), serves="accuracy")]


def _far_from_usual(context: Context) -> Sequence[Operation]:
    levels = levels_of(context)
    if levels and min(levels[-1].grid) >= FEWEST_CELLS and max(levels[-1].grid) <= MOST_CELLS:
        return []
    return [context.cost.operations[each] for level in levels for each in level.ends]


def _without_last(context: Context, count: int) -> Iterator[dict[str, Any]]:
    """Changes of the config that drop its `count` coarsest levels and keep their boxes."""
    config: Any = context.config
    boxes = boxes_field(context)
    if boxes is None:
        return
    sizes = getattr(config, boxes)
    if len(sizes) <= count:
        return
    kept = [*sizes[: len(sizes) - count]]
    kept[-1] = tuple(box for level in sizes[len(sizes) - count - 1 :] for box in level)
    fields: dict[str, Any] = {boxes: tuple(kept)}
    if context.has("extras", "steps") and config.neck == "ssd_extras":
        if count > len(config.extras):
            return
        fields["extras"] = config.extras[: len(config.extras) - count]
        fields["valid_extras"] = max(0, config.valid_extras - count)
        if config.steps is not None:
            fields["steps"] = config.steps[: len(sizes) - count]
        fields = {key: value for key, value in fields.items() if getattr(config, key) != value}
    yield fields


def _one_more(context: Context) -> dict[str, Any] | None:
    """The change of the config that adds a coarser level, with boxes of twice the size."""
    config: Any = context.config
    boxes = boxes_field(context)
    if boxes is None:
        return None
    sizes = getattr(config, boxes)
    limit = 1.0 if boxes == "default_boxes" else float("inf")
    further = tuple((min(2 * w, limit), min(2 * h, limit)) for w, h in sizes[-1])
    fields: dict[str, Any] = {boxes: (*sizes, further)}
    if context.has("extras", "steps") and config.neck == "ssd_extras":
        fields["extras"] = (*config.extras, config.extras[-1]) if config.extras else (256,)
        if config.steps is not None:
            fields["steps"] = (*config.steps, 2 * config.steps[-1])
    return fields


def boxes_field(context: Context) -> str | None:
    """The field of the config that holds the boxes of each level."""
    names = ("default_boxes", "anchor_sizes", "anchors")
    return next((name for name in names if context.has(name)), None)
