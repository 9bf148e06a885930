"""Teachers looking at pictures through several views, their boxes fused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flyweight.core.detections import Detections
from flyweight.labeling.teacher import NamedTeacher
from flyweight.labeling.views import View
from flyweight.labeling.weighted_box_fusion import FusedBoxes, fuse_boxes

# T teachers, V views, S = T · V sources, teacher by teacher

Image = npt.NDArray[np.uint8]

LEAST_SCORE = 0.05
IOU = 0.55


@dataclass(frozen=True)
class Labeler:
    """What all teachers together say about pictures.

    Attributes:
        teachers: T of them.
        views: V of them; each teacher sees each picture in each view.
        iou_threshold: of the fusion.
        least_score: boxes below it are left out of the fusion: a poor box lowers the score of the
            good one it joins.
    """

    teachers: Sequence[NamedTeacher]
    views: Sequence[View]
    iou_threshold: float = IOU
    least_score: float = LEAST_SCORE

    def __call__(self, images: Sequence[Image]) -> list[FusedBoxes]:
        """Fused boxes of each RGB uint8 `[H, W, 3]` image, in its own pixels.

        Their sources are the views of the first teacher, then those of the next.
        """
        looks = [
            self._look(teacher, view, images) for teacher in self.teachers for view in self.views
        ]
        return [
            fuse_boxes(sources, iou_threshold=self.iou_threshold, least_score=self.least_score)
            for sources in zip(*looks, strict=True)
        ]

    @staticmethod
    def _look(teacher: NamedTeacher, view: View, images: Sequence[Image]) -> list[Detections]:
        """What a teacher finds in one view of each image, boxes in the image's own pixels."""
        shown = [view.show(image) for image in images]
        found = iter(teacher.predict_batch([window for windows in shown for window in windows]))
        return [
            view.unite([next(found) for _ in windows], (image.shape[0], image.shape[1]))
            for image, windows in zip(images, shown, strict=True)
        ]

    def teachers_of(self, found_by: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """bool `[N, T]` of `found_by [N, S]`: which teachers had a box there in any view."""
        by_teacher = found_by.reshape(len(found_by), len(self.teachers), len(self.views))
        return np.asarray(by_teacher.any(axis=2))

    @property
    def decode_size_hw(self) -> tuple[int, int] | None:
        """What the teachers need of a picture at least, in the view that shows most detail."""
        sizes = [teacher.decode_size_hw for teacher in self.teachers]
        if any(size is None for size in sizes):
            return None
        largest = max(1.0, *(view.scale for view in self.views))
        height, width = np.ceil(np.max(np.array(sizes), axis=0) * largest).astype(int).tolist()
        return height, width

    def describe(self) -> dict[str, Any]:
        """What decides about the boxes, for JSON."""
        return {
            "teachers": [
                {
                    "name": teacher.name,
                    "sha256": teacher.sha256,
                    "label_of": teacher.label_of.tolist(),
                }
                for teacher in self.teachers
            ],
            "views": [view.name for view in self.views],
            "iou_threshold": self.iou_threshold,
            "least_score": self.least_score,
        }
