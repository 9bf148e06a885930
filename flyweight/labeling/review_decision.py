"""What a person decides about a box, and what the annotations of its picture are then."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flyweight.core.boxes import clip_boxes, xyxy_to_xywh
from flyweight.core.errors import InputError
from flyweight.labeling.review_doubt import Annotation

ACTIONS = ("accept", "drop", "fix", "add", "done", "undo")
OF_A_BOX = ("accept", "drop", "fix")
LEAST_SIDE = 1.0


@dataclass(frozen=True)
class Decision:
    """A request of the page.

    Attributes:
        action: `accept` a box as it is, `drop` it, `fix` its corners or class, `add` one, call the
            picture `done`, or `undo` the last of these.
        box: id of the annotation, for the first three.
        box_xyxy: corners in pixels of the picture, for `fix` and `add`.
        category: id, for `fix` and `add`.
    """

    action: str
    box: int | None = None
    box_xyxy: tuple[float, float, float, float] | None = None
    category: int | None = None

    @staticmethod
    def from_json(content: Any) -> Decision:
        """Raises InputError where `content` is no decision."""
        if not isinstance(content, dict) or content.get("action") not in ACTIONS:
            raise InputError("no such action", fix=f"known are {', '.join(ACTIONS)}")
        action, box = content["action"], content.get("box")
        corners, category = content.get("box_xyxy"), content.get("category")
        if action in OF_A_BOX and type(box) is not int:
            raise InputError("no box is named")
        if corners is not None:
            corners = _corners(corners)
        if action == "add" and (corners is None or type(category) is not int):
            raise InputError("a new box needs corners and a class")
        if action == "fix" and corners is None and type(category) is not int:
            raise InputError("a fixed box needs corners or a class")
        return Decision(action, box, corners, category)


def _corners(value: Any) -> tuple[float, float, float, float]:
    if not isinstance(value, list) or len(value) != 4:
        raise InputError("a box has four corners: x1, y1, x2, y2")
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in value):
        raise InputError("the corners of a box are numbers")
    if not all(math.isfinite(each) for each in value):
        raise InputError("the corners of a box are finite numbers")
    x1, y1, x2, y2 = map(float, value)
    return x1, y1, x2, y2


def carry_out(
    decision: Decision,
    annotations: Sequence[Annotation],
    *,
    size_hw: tuple[int, int],
    image_id: int | str,
    category_ids: Collection[int],
    new_id: int,
) -> list[Annotation]:
    """The annotations of a picture after `decision`; those that are given stay as they are.

    Every box that was decided on says so under `reviewed`; its score, votes and teachers stay. An
    ignore region of the teachers (`uncertain`) becomes an ordinary annotation.

    Args:
        size_hw: of the picture, pixels: boxes are cut at its border.
        category_ids: that the file has.
        new_id: of an added annotation.

    Raises:
        InputError: no such box or class, or a box smaller than a pixel.
    """
    if decision.category is not None and decision.category not in category_ids:
        raise InputError(f"no class {decision.category}")
    if decision.action == "done":
        return list(annotations)
    if decision.action == "add":
        added = {"id": new_id, "image_id": image_id, "category_id": decision.category}
        return [*annotations, _decided(added, decision, size_hw) | {"reviewed": "added"}]
    if decision.box not in [each["id"] for each in annotations]:
        raise InputError(f"this picture has no box {decision.box}")
    if decision.action == "drop":
        return [each for each in annotations if each["id"] != decision.box]
    return [
        _decided(each, decision, size_hw) if each["id"] == decision.box else each
        for each in annotations
    ]


def _decided(annotation: Annotation, decision: Decision, size_hw: tuple[int, int]) -> Annotation:
    changed = dict(annotation)
    if changed.pop("uncertain", 0) or "iscrowd" not in changed:
        changed["iscrowd"] = 0
    if decision.category is not None:
        changed["category_id"] = decision.category
    if decision.box_xyxy is not None:
        changed["bbox"] = _checked_xywh(decision.box_xyxy, size_hw)
        changed["area"] = round(changed["bbox"][2] * changed["bbox"][3], 2)
        changed.pop("segmentation", None)  # of the box as it was
    before = annotation.get("reviewed")
    if decision.action == "accept":
        return changed | {"reviewed": before or "accepted"}
    return changed | {"reviewed": "added" if before == "added" else "fixed"}


def _checked_xywh(
    box_xyxy: tuple[float, float, float, float], size_hw: tuple[int, int]
) -> list[float]:
    """`xywh`, to 0.01 pixels, of a box cut at the picture's border; corners in either order."""
    corners = np.sort(np.array(box_xyxy).reshape(2, 2), axis=0).reshape(1, 4)
    box_xywh: list[float] = xyxy_to_xywh(clip_boxes(corners, size_hw))[0].round(2).tolist()
    if min(box_xywh[2:]) < LEAST_SIDE:
        raise InputError("the box is smaller than a pixel", fix="draw it larger")
    return box_xywh
