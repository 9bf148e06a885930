"""PicoDet as published before 2022, without postprocessing in the graph: Yu et al. 2021 (arXiv
2111.00902).

Input and decoding are those of PaddleDetection (Apache-2.0), `configs/picodet/legacy_model` and
`deploy/python/picodet_postprocess.py`: RGB stretched to the input, ImageNet's mean and deviation;
a box side is the mean of a distribution over whole strides (Li et al. 2020, Generalized Focal Loss,
arXiv 2006.04388, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import clip_boxes
from flyweight.core.detections import Detections
from flyweight.core.nms import select_detections
from flyweight.data.class_names import published_class_names

# A cells of a level, C classes, R whole distances from 0

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

STRIDES = (8, 16, 32, 64)
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)
# PaddleDetection's, but for the score: low ones are wanted here.
SELECTION: dict[str, Any] = {
    "score_threshold": 0.01,
    "iou_threshold": 0.6,
    "candidates_per_class": 400,
    "max_detections": 300,
}


def is_picodet(shapes: Sequence[tuple[Any, ...]]) -> bool:
    """Whether a network with outputs of these shapes is one: scores `[1, A, C]` of four levels,
    then distances `[1, A, 4 R]` of the same."""
    levels = len(STRIDES)
    if len(shapes) != 2 * levels or any(len(shape) != 3 for shape in shapes):
        return False
    scores, distances = shapes[:levels], shapes[levels:]
    return [shape[1] for shape in scores] == [shape[1] for shape in distances] and all(
        shape[2] % 4 == 0 for shape in distances
    )


class PicoDetTeacher:
    """See `flyweight.labeling.teacher.Teacher`.

    Args:
        session: ONNX Runtime's, input `[1, 3, H, W]`.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        _, _, height, width = session.get_inputs()[0].shape
        self.size_hw = (int(height), int(width))
        self.class_names = published_class_names(session.get_outputs()[0].shape[2])

    def predict_batch(self, images: Sequence[Image]) -> list[Detections]:
        """Detections of each RGB uint8 `[H, W, 3]` image, boxes in its own pixels."""
        return [self._predict(image) for image in images]

    def _predict(self, image: Image) -> Detections:
        height, width = self.size_hw
        stretched = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
        pixels = ((stretched - MEAN) / STD).transpose(2, 0, 1)[None]
        outputs = [
            output[0]
            for output in self._session.run(None, {self._input: np.ascontiguousarray(pixels)})
        ]
        levels = len(STRIDES)
        boxes_xyxy = self.decode(outputs[levels:])
        factors = np.array([image.shape[1] / width, image.shape[0] / height] * 2, np.float32)
        clipped = clip_boxes(boxes_xyxy * factors, (image.shape[0], image.shape[1]))
        return select_detections(clipped, np.concatenate(outputs[:levels]), **SELECTION)

    def decode(self, distributions: Sequence[Floats]) -> Floats:
        """Boxes `xyxy`, input pixels, of all levels' logits `[A, 4 R]`, which follow each other."""
        return np.concatenate(
            [
                _decode_level(logits, self.size_hw, stride)
                for logits, stride in zip(distributions, STRIDES, strict=True)
            ]
        )


def _decode_level(logits: Floats, size_hw: tuple[int, int], stride: int) -> Floats:
    """Boxes `xyxy [A, 4]`: from the cell's centre so far to the left, up, to the right, down."""
    rows, columns = (-(-side // stride) for side in size_hw)
    y, x = np.indices((rows, columns)).reshape(2, -1) * stride + 0.5 * stride
    weights = logits.reshape(len(logits), 4, -1)
    weights = np.exp(weights - weights.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    distances = weights @ np.arange(weights.shape[2], dtype=np.float32) * stride
    centres = np.stack([x, y, x, y], axis=1).astype(np.float32)
    return centres + distances * np.array([-1, -1, 1, 1], np.float32)
