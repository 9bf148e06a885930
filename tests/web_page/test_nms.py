"""The page's selection of boxes in Node, against the numpy one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flyweight.core.drawing import class_colour
from flyweight.core.manifest import Thresholds
from flyweight.core.nms import NmsKind, select_detections
from tests.web_page.node_detector import encoded, run_in_node

KINDS: tuple[NmsKind, ...] = ("greedy", "diou", "soft_linear", "soft_gaussian")


def dense(seed: int, anchors: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in crowds, and scores of which many are the same."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0, 100, (12, 2))[rng.integers(0, 12, anchors)] + rng.normal(
        0, 4, (anchors, 2)
    )
    half = rng.uniform(2, 18, (anchors, 2))
    boxes = np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
    boxes[:3] = boxes[0]
    boxes[3] = 5  # without an area
    scores = rng.uniform(0, 1, (anchors, classes)) ** 3
    return boxes, np.round(scores, 2).astype(np.float32)


def job(boxes: np.ndarray, scores: np.ndarray, thresholds: Thresholds) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "task": "select", "boxes": encoded(boxes), "scores": encoded(scores),
        "classes": scores.shape[1], "thresholds": asdict(thresholds),
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_boxes_as_numpy(kind: NmsKind) -> None:
    few = Thresholds(score=0.3, iou=0.45, candidates_per_class=30, max_detections=25, nms=kind)
    all_of_them = Thresholds(score=0.01, iou=0.55, nms=kind)
    none = Thresholds(score=0.999, nms=kind)
    cases = [
        (*dense(seed, anchors, classes), thresholds)
        for seed, (anchors, classes) in enumerate([(200, 1), (300, 3), (120, 20)])
        for thresholds in (few, all_of_them, none)
    ]
    answers = run_in_node([job(*case) for case in cases])
    for (boxes, scores, thresholds), answer in zip(cases, answers, strict=True):
        expected = select_detections(boxes, scores, **thresholds.selection())
        found = answer["value"]
        assert found["labels"] == expected.labels.tolist()
        np.testing.assert_array_equal(
            np.array(found["boxes"], np.float32).reshape(-1, 4), expected.boxes_xyxy
        )
        # exp() of two libraries may differ in its last bit
        np.testing.assert_allclose(found["scores"], expected.scores, rtol=1e-6)
    assert answers[2]["value"]["labels"] == []


def test_colours_are_those_of_the_drawings() -> None:
    answers = run_in_node([{"task": "colour", "label": label} for label in range(80)])
    for label, answer in enumerate(answers):
        np.testing.assert_allclose(answer["value"], class_colour(label), atol=1)
