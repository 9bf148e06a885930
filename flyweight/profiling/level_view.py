"""What each level of predictions looks at, and the boxes that it is to find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from flyweight.core.preprocessing import Preprocessing
from flyweight.data.records import DetectionDataset
from flyweight.models.detectors.detector import Detector
from flyweight.profiling.effective_field import EffectiveField
from flyweight.profiling.operation import NetworkCost
from flyweight.profiling.receptive_field import prediction_levels


@dataclass(frozen=True)
class LevelView:
    """One level of a detector's head, in pixels of the network's input.

    Attributes:
        layer: that predicts.
        stride: from cell to cell.
        grid: rows and columns of cells.
        receptive_field: side of the theoretical field; None where it is not local.
        effective_field: side of the square with most of the gradient; None if not asked for.
        anchors_wh: (width, height) of the anchors of a cell.
    """

    layer: str
    stride: int | None
    grid: tuple[int, int]
    receptive_field: int | None
    effective_field: int | None
    anchors_wh: tuple[tuple[float, float], ...]


def level_views(
    detector: Detector, cost: NetworkCost, *, effective: Sequence[EffectiveField] = ()
) -> list[LevelView]:
    """The levels of `detector`, finest first, at the input size of `cost`.

    Args:
        effective: of each level, where they were measured.
    """
    height, width = cost.input_shape[2:]
    objective, _ = detector.interpretation((height, width))
    anchors = cast(Any, objective).anchors
    levels = prediction_levels(cost)
    return [
        LevelView(
            layer=operation.layer,
            stride=operation.stride,
            grid=grid,
            receptive_field=operation.receptive_field,
            effective_field=effective[place].side if effective else None,
            anchors_wh=tuple((w * width, h * height) for w, h in sizes),
        )
        for place, (operation, grid, sizes) in enumerate(
            zip(levels, anchors.grids, anchors.sizes_wh, strict=True)
        )
    ]


def object_sizes(
    dataset: DetectionDataset, preprocessing: Preprocessing
) -> npt.NDArray[np.float64]:
    """(width, height) `[G, 2]` of all objects but crowds, in pixels of the network's input."""
    sizes = [np.zeros((0, 2))]
    for record in dataset.records:
        matrix = preprocessing.matrix(record.size_hw)
        boxes = record.boxes_xyxy[~record.crowd].astype(np.float64)
        sizes.append((boxes[:, 2:] - boxes[:, :2]) * (matrix[0, 0], matrix[1, 1]))
    joined = np.concatenate(sizes)
    return joined[(joined > 0).all(axis=1)]
