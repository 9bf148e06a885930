"""What a detector found in one image, and what a predictor is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Detections:
    """The detections of one image, sorted by score, best first.

    Attributes:
        boxes_xyxy: float32 `[N, 4]`, pixels of the image they belong to.
        scores: float32 `[N]`, 0 to 1.
        labels: int64 `[N]`, contiguous class numbers from 0.
    """

    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes_xyxy, dtype=np.float32).reshape(-1, 4)
        scores = np.asarray(self.scores, dtype=np.float32).reshape(-1)
        labels = np.asarray(self.labels, dtype=np.int64).reshape(-1)
        if not len(boxes) == len(scores) == len(labels):
            raise ValueError(
                f"{len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels do not match"
            )
        order = np.argsort(-scores, kind="stable")
        object.__setattr__(self, "boxes_xyxy", boxes[order])
        object.__setattr__(self, "scores", scores[order])
        object.__setattr__(self, "labels", labels[order])

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def empty() -> Detections:
        """No detection at all."""
        return Detections(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        )

    def above(self, score: float) -> Detections:
        """Those whose score is at least `score`."""
        count = int(np.searchsorted(-self.scores, -score, side="right"))
        return Detections(self.boxes_xyxy[:count], self.scores[:count], self.labels[:count])

    def to_list(self, class_names: Sequence[str]) -> list[dict[str, Any]]:
        """One dict a detection: `label`, `class_id`, `score`, `box_xyxy` (pixels)."""
        return [
            {
                "label": class_names[int(label)],
                "class_id": int(label),
                "score": round(float(score), 5),
                "box_xyxy": [round(float(value), 2) for value in box],
            }
            for box, score, label in zip(self.boxes_xyxy, self.scores, self.labels, strict=True)
        ]


class Predictor(Protocol):
    """Anything that finds objects: a torch detector, an ONNX Runtime or OpenVINO session."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        ...

    def predict(
        self, image: str | os.PathLike[str] | npt.NDArray[np.uint8], *, score: float = 0.3
    ) -> Detections:
        """Detections of at least `score` in one picture: a file, or RGB uint8 `[H, W, 3]`."""
        ...

    def predict_batch(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """Detections of each RGB uint8 `[H, W, 3]` image, boxes in that image's own pixels."""
        ...
