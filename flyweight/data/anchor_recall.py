"""Anchor recall: the share of objects that at least one anchor of a model overlaps well enough.

SSD trains an anchor on an object from IoU 0.5 (Liu et al. 2016, section 2.2). An object below it
for every anchor still gets its single best one, but learns slowly and is found late: recall by
size, shape and class says who that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import box_iou

# Side of the object, sqrt(w * h), as a share of the input's side.
SIZE_EDGES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, np.inf)
# Width over height, after the resize to the input.
ASPECT_EDGES = (0.0, 1 / 3, 1 / 2, 1 / 1.25, 1.25, 2.0, 3.0, np.inf)
_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class RecallRow:
    """Recall of one group of objects. `recall` and `mean_best_iou` lie in 0..1."""

    name: str
    objects: int
    recall: float
    mean_best_iou: float


@dataclass(frozen=True)
class AnchorRecall:
    """How well a set of anchors reaches a set of objects, in all and by group."""

    match_iou: float
    total: RecallRow
    by_size: tuple[RecallRow, ...]
    by_aspect: tuple[RecallRow, ...]
    by_class: tuple[RecallRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, ready for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """A table for the terminal, one group a line."""
        lines = [f"{'objects':<26}{'count':>8}{'recall':>9}{'mean best IoU':>15}"]
        for row in (self.total, *self.by_size, *self.by_aspect, *self.by_class):
            lines.append(
                f"{row.name:<26}{row.objects:>8}{row.recall:>9.3f}{row.mean_best_iou:>15.3f}"
            )
        return "\n".join(lines)


def best_anchor_iou(
    boxes_xyxy: npt.NDArray[np.floating], anchors_xyxy: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """IoU `[N]` of each object with its best anchor.

    `boxes_xyxy [N, 4]` and `anchors_xyxy [A, 4]` are in the same unit. Runs in blocks, so that
    memory stays small for any number of objects.
    """
    boxes = np.asarray(boxes_xyxy, np.float32)
    anchors = np.asarray(anchors_xyxy, np.float32)
    best = np.zeros(len(boxes), np.float32)
    if len(anchors) == 0:
        return best
    for start in range(0, len(boxes), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        best[block] = box_iou(boxes[block], anchors).max(axis=1)
    return best


def anchor_recall(
    boxes_xyxy: npt.NDArray[np.floating],
    anchors_xyxy: npt.NDArray[np.floating],
    *,
    labels: npt.NDArray[np.int64] | None = None,
    class_names: Sequence[str] = (),
    match_iou: float = 0.5,
) -> AnchorRecall:
    """Recall at `match_iou` of `boxes_xyxy [N, 4]` against `anchors_xyxy [A, 4]`.

    Both are relative to the image (0..1), stretched to the model's input: the anchors are those
    that the model tiles, with their places, not sizes alone. `labels [N]` index `class_names`.
    """
    best = best_anchor_iou(boxes_xyxy, anchors_xyxy)
    wh = np.asarray(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], np.float64)
    side = np.sqrt(wh.prod(axis=1))
    aspect = wh[:, 0] / np.maximum(wh[:, 1], 1e-12)

    def row(name: str, mask: npt.NDArray[np.bool_]) -> RecallRow:
        chosen = best[mask]
        if len(chosen) == 0:
            return RecallRow(name, 0, float("nan"), float("nan"))
        return RecallRow(
            name, len(chosen), float((chosen >= match_iou).mean()), float(chosen.mean())
        )

    def by_edges(
        what: str, values: npt.NDArray[np.float64], edges: Sequence[float]
    ) -> tuple[RecallRow, ...]:
        rows = (
            row(_interval(what, low, high), (values >= low) & (values < high))
            for low, high in pairwise(edges)
        )
        return tuple(r for r in rows if r.objects)

    by_class: tuple[RecallRow, ...] = ()
    if labels is not None:
        rows = (row(name, labels == index) for index, name in enumerate(class_names))
        by_class = tuple(r for r in rows if r.objects)
    return AnchorRecall(
        match_iou=match_iou,
        total=row("all objects", np.ones(len(best), bool)),
        by_size=by_edges("side", side, SIZE_EDGES),
        by_aspect=by_edges("width/height", aspect, ASPECT_EDGES),
        by_class=by_class,
    )


def _interval(what: str, low: float, high: float) -> str:
    if low == 0:
        return f"{what} < {high:.2g}"
    if np.isinf(high):
        return f"{what} >= {low:.2g}"
    return f"{what} {low:.2g} to {high:.2g}"
