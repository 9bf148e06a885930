"""Boxes drawn on pictures, with a colour a class and readable labels."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.core.detections import Detections

Image = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
GOLDEN_RATIO = 0.61803398875


def class_colour(label: int) -> Colour:
    """RGB of a class: neighbours are far apart on the colour wheel, and it never changes."""
    red, green, blue = colorsys.hsv_to_rgb((0.58 + label * GOLDEN_RATIO) % 1.0, 0.78, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_detections(
    image: Image, detections: Detections, class_names: Sequence[str], *, score: float = 0.3
) -> Image:
    """A copy of RGB uint8 `[H, W, 3]` with the detections of at least `score`, best on top."""
    chosen = detections.above(score)
    texts = detection_texts(chosen, class_names)
    return draw_boxes(image, chosen.boxes_xyxy[::-1], chosen.labels[::-1], texts[::-1])


def detection_texts(detections: Detections, class_names: Sequence[str]) -> list[str]:
    """`card 0.97` of each."""
    return [
        f"{class_names[int(label)]} {value:.2f}"
        for label, value in zip(detections.labels, detections.scores, strict=True)
    ]


def draw_boxes(
    image: Image,
    boxes_xyxy: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    texts: Sequence[str],
    *,
    colour: Colour | None = None,
) -> Image:
    """A copy of the picture with boxes and their texts.

    Args:
        image: RGB uint8 `[H, W, 3]`.
        boxes_xyxy: `[N, 4]` pixels of the picture.
        labels: `[N]` class numbers; they choose the colours unless `colour` is given.
        texts: `[N]`; an empty text draws no label.
    """
    canvas = np.ascontiguousarray(image).copy()
    thickness = max(1, round(min(image.shape[:2]) / 240))
    for box, label, text in zip(boxes_xyxy, labels, texts, strict=True):
        paint = colour or class_colour(int(label))
        left, top, right, bottom = (round(float(value)) for value in box)
        cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), paint, thickness)
        if text:
            _draw_text(canvas, text, (left, top), paint)
    return canvas


def _draw_text(canvas: Image, text: str, corner_xy: tuple[int, int], paint: Colour) -> None:
    """The text on a plate above the box, or inside it where there is no room above."""
    height, width = canvas.shape[:2]
    scale = max(0.36, min(height, width) / 1000)
    weight = max(1, round(scale * 1.6))
    (text_width, text_height), baseline = cv2.getTextSize(
        text, cv2.FONT_HERSHEY_SIMPLEX, scale, weight
    )
    plate_height = text_height + baseline + 2
    left = int(np.clip(corner_xy[0], 0, max(0, width - text_width - 4)))
    top = corner_xy[1] - plate_height if corner_xy[1] >= plate_height else max(0, corner_xy[1])
    cv2.rectangle(canvas, (left, top), (left + text_width + 4, top + plate_height), paint, -1)
    bright = 0.299 * paint[0] + 0.587 * paint[1] + 0.114 * paint[2] > 140
    ink = (0, 0, 0) if bright else (255, 255, 255)
    cv2.putText(
        canvas,
        text,
        (left + 2, top + text_height + 1),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        ink,
        weight,
        lineType=cv2.LINE_AA,
    )
