"""Detections written down as lists."""

from __future__ import annotations

from typing import Any

from flyweight.core.detections import Detections


def detections_of(boxes_xyxy: Any, scores: Any, labels: Any) -> Detections:
    """`Detections` of anything numpy takes for `[N, 4]`, `[N]` and `[N]`."""
    return Detections(boxes_xyxy, scores, labels)
