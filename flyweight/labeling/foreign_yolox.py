"""YOLOX as published: Ge et al. 2021 (arXiv 2107.08430), Megvii's `tools/export_onnx.py`.

Input and decoding are those of its `demo/ONNXRuntime/onnx_inference.py` and
`yolox/utils/demo_utils.py` (Apache-2.0): BGR, 0 to 255, not normalised, scaled to fit and padded
with 114 on the right and below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import clip_boxes, cxcywh_to_xyxy
from flyweight.core.detections import Detections
from flyweight.core.nms import select_detections
from flyweight.data.class_names import published_class_names

# A cells of all levels, C classes

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

STRIDES = (8, 16, 32)
PAD_VALUE = 114
# Box, objectness.
COLUMNS = 5
# The paper's test settings, but for the score: low ones are wanted here.
SELECTION: dict[str, Any] = {
    "score_threshold": 0.01,
    "iou_threshold": 0.65,
    "candidates_per_class": 400,
    "max_detections": 300,
}


def is_yolox(input_shape: Sequence[Any], shapes: Sequence[Sequence[Any]]) -> bool:
    """Whether a network of these shapes is one: `[1, 3, H, W]` in, a single `[1, A, 5 + C]` out.

    A is one box a cell: YOLO's older versions have three, which are decoded otherwise.
    """
    if len(shapes) != 1 or len(shapes[0]) != 3 or not all(isinstance(n, int) for n in input_shape):
        return False
    images, boxes, columns = shapes[0]
    cells = sum((input_shape[2] // stride) * (input_shape[3] // stride) for stride in STRIDES)
    return images == 1 and boxes == cells and columns > COLUMNS


class YOLOXTeacher:
    """See `flyweight.labeling.teacher.Teacher`.

    Args:
        session: ONNX Runtime's, input `[1, 3, H, W]`.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        _, _, height, width = session.get_inputs()[0].shape
        self.size_hw = (int(height), int(width))
        self.class_names = published_class_names(session.get_outputs()[0].shape[2] - COLUMNS)
        self._corners, self._strides = grid_corners(self.size_hw)

    def predict_batch(self, images: Sequence[Image]) -> list[Detections]:
        """Detections of each RGB uint8 `[H, W, 3]` image, boxes in its own pixels."""
        return [self._predict(image) for image in images]

    def _predict(self, image: Image) -> Detections:
        pixels, scale = self._prepare(image)
        raw = self._session.run(None, {self._input: pixels})[0][0]
        boxes_xyxy = self.decode(raw) / np.float32(scale)
        clipped = clip_boxes(boxes_xyxy, (image.shape[0], image.shape[1]))
        # class score times objectness; both have been through a sigmoid
        return select_detections(clipped, raw[:, COLUMNS:] * raw[:, 4:5], **SELECTION)

    def _prepare(self, image: Image) -> tuple[Floats, float]:
        """The input float32 `[1, 3, H, W]`, and the factor from the image's pixels to its."""
        height, width = self.size_hw
        scale = min(height / image.shape[0], width / image.shape[1])
        content_hw = int(image.shape[0] * scale), int(image.shape[1] * scale)
        padded = np.full((height, width, 3), PAD_VALUE, np.uint8)
        padded[: content_hw[0], : content_hw[1]] = cv2.resize(
            image, content_hw[::-1], interpolation=cv2.INTER_LINEAR
        )
        bgr = padded[..., ::-1].transpose(2, 0, 1)
        return np.ascontiguousarray(bgr[None], dtype=np.float32), scale

    def decode(self, raw: Floats) -> Floats:
        """Boxes `xyxy [A, 4]`, input pixels, of the output `raw [A, 5 + C]`.

        Section 2.1, "Anchor-free": offsets of the cell's corner, logarithms of the sides, both in
        strides.
        """
        centres = raw[:, :2] * self._strides + self._corners
        return cxcywh_to_xyxy(
            np.concatenate([centres, np.exp(raw[:, 2:4]) * self._strides], axis=1)
        )


def grid_corners(size_hw: tuple[int, int]) -> tuple[Floats, Floats]:
    """Top-left corners `[A, 2]` (x, y) of all cells, level by level, row by row, input pixels; and
    their strides `[A, 1]`."""
    corners, strides = [], []
    for stride in STRIDES:
        rows, columns = np.indices((size_hw[0] // stride, size_hw[1] // stride))
        level = np.stack([columns, rows], axis=-1).reshape(-1, 2) * stride
        corners.append(level)
        strides.append(np.full((len(level), 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(strides).astype(np.float32)
