"""What a level sees against the boxes that it is to find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flyweight.profiling.advice.advice import Advice, Price
from flyweight.profiling.advice.context import Context, cure, listed_layers
from flyweight.profiling.advice.levels import Level, anchor_sizes_px, levels_of
from flyweight.profiling.operation import Operation

RULE = "receptive_field"
SOURCE = (
    "Luo et al. 2016, https://arxiv.org/abs/1701.04128: the centre of the field has most of the "
    "effect, so an anchor as large as the theoretical field is not seen whole"
)


def receptive_field(context: Context) -> list[Advice]:
    """Levels whose theoretical receptive field is smaller than their largest anchor."""
    found = _short_sighted(context)
    if not found:
        return []
    names = listed_layers(
        [context.cost.operations[each] for level, _ in found for each in level.ends]
    )
    shown = "; ".join(
        f"stride {level.stride}: sees {level.receptive_field} pixels, anchor of {side:.0f}"
        for level, side in found
    )
    finding = f"{len(found)} levels have anchors larger than what they see ({shown})"
    for fields in _changes(context):
        offered = cure(context, _operations, fields)
        if offered is not None:
            text = ", ".join(f"{key} to {value}" for key, value in offered[0].items())
            advice = Advice(RULE, finding, f"set {text}", SOURCE, names, offered[1], offered[0])
            return [replace(advice, serves="accuracy")]
    change = "give these boxes to a coarser level, or the level more layers or dilation"
    return [Advice(RULE, finding, change, SOURCE, names, Price(0, 0, 0), serves="accuracy")]


def _short_sighted(context: Context) -> list[tuple[Level, float]]:
    """Levels that see less than their largest anchor's side √(w·h), and that side in pixels.

    What is larger than the picture is cut off at its border.
    """
    levels, anchors = levels_of(context), anchor_sizes_px(context)
    if len(levels) != len(anchors) or context.config is None:
        return []
    limit_wh = context.config.size_hw[::-1]
    sides = [float(np.sqrt(np.minimum(wh, limit_wh).prod(axis=1)).max()) for wh in anchors]
    return [
        (level, side)
        for level, side in zip(levels, sides, strict=True)
        if level.receptive_field is not None and level.receptive_field < side
    ]


def _operations(context: Context) -> Sequence[Operation]:
    return [
        context.cost.operations[each] for level, _ in _short_sighted(context) for each in level.ends
    ]


def _changes(context: Context) -> Iterator[dict[str, Any]]:
    """Heads that look around, in place of those that do not."""
    for field, narrow, wide in (
        ("head", "conv1x1", "separable"),
        ("tower_kernel", 1, 3),
    ):
        if context.has(field) and getattr(context.config, field) == narrow:
            extra = {"tower_separable": True} if field == "tower_kernel" else {}
            yield {field: wide} | extra
