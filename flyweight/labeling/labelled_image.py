"""What the teachers said about one picture, as shards keep it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from flyweight.core.detections import Detections
from flyweight.labeling.weighted_box_fusion import FusedBoxes

# N boxes of a picture, S sources


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """A row of a shard.

    Attributes:
        name: of the picture.
        size_hw: its height and width, pixels; (0, 0) where it could not be read.
        boxes: the fused boxes, in its pixels.
        problem: why it could not be read, else None.
    """

    name: str
    size_hw: tuple[int, int]
    boxes: FusedBoxes
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the same in every format: boxes to 0.01 pixels, scores to five digits."""
        if self.problem is not None:
            return {"name": self.name, "problem": self.problem}
        found = self.boxes.detections
        return {
            "name": self.name,
            "size_hw": self.size_hw,
            "boxes_xyxy": found.boxes_xyxy.astype(np.float64).round(2).tolist(),
            "scores": found.scores.astype(np.float64).round(5).tolist(),
            "labels": found.labels.tolist(),
            "found_by": [np.flatnonzero(row).tolist() for row in self.boxes.found_by],
            "sources": self.boxes.found_by.shape[1],
        }

    @staticmethod
    def from_dict(content: dict[str, Any]) -> LabelledImage:
        """The inverse of `to_dict`."""
        if content.get("problem") is not None:
            return unread(content["name"], content["problem"])
        found_by = np.zeros((len(content["scores"]), content["sources"]), dtype=bool)
        for row, sources in zip(found_by, content["found_by"], strict=True):
            row[sources] = True
        height, width = content["size_hw"]
        found = Detections(content["boxes_xyxy"], content["scores"], content["labels"])
        return LabelledImage(content["name"], (height, width), FusedBoxes(found, found_by))

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> LabelledImage:
        """The inverse of `to_json`."""
        return LabelledImage.from_dict(json.loads(text))


def unread(name: str, problem: str) -> LabelledImage:
    """A picture that could not be read, and why."""
    return LabelledImage(
        name, (0, 0), FusedBoxes(Detections.empty(), np.zeros((0, 0), bool)), problem
    )
