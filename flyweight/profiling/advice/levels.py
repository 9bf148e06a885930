"""The levels that a head looks at: their grids, what they see, and their anchors."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flyweight.profiling.advice.context import Context
from flyweight.profiling.advice.convolution import part_of, predictors
from flyweight.profiling.operation import NetworkCost


@dataclass(frozen=True)
class Level:
    """One level of a detector's head.

    Attributes:
        grid: (rows, columns) of its cells.
        stride: input pixels from cell to cell.
        receptive_field: side in input pixels of what one prediction depends on; None where it is
            not known.
        ends: indices of the operations that predict there.
    """

    grid: tuple[int, int]
    stride: int
    receptive_field: int | None
    ends: tuple[int, ...]


def levels_of(context: Context) -> tuple[Level, ...]:
    """Those of the network under advice, finest first."""
    return levels_of_cost(context.cost)


def levels_of_cost(cost: NetworkCost) -> tuple[Level, ...]:
    """Levels by the last convolutions of a network, finest first."""
    operations = cost.operations
    by_grid: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index in sorted(predictors(cost)):
        operation = operations[index]
        # the second stage of two predicts regions, not cells
        if len(operation.output_shape) == 4 and part_of(operation) != "backbone":
            rows, columns = operation.output_shape[-2:]
            by_grid[rows, columns].append(index)
    levels = []
    for grid, ends in sorted(by_grid.items(), reverse=True):
        fields = [operations[each].receptive_field for each in ends]
        known = [field for field in fields if field is not None]
        stride = operations[ends[0]].stride
        if stride is not None:
            levels.append(Level(grid, stride, min(known, default=None), tuple(ends)))
    return tuple(levels)


def anchor_sizes_px(context: Context) -> tuple[npt.NDArray[np.float64], ...]:
    """(w, h) `[K, 2]` of each level's anchors in input pixels, finest level first."""
    config: Any = context.config
    if config is None:
        return ()
    height, width = config.size_hw
    if context.has("default_boxes"):
        return tuple(np.asarray(level) * (width, height) for level in config.default_boxes)
    name = "anchor_sizes" if context.has("anchor_sizes") else "anchors"
    return tuple(np.asarray(level, float) for level in getattr(config, name))
