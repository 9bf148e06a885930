from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from flyweight.data.anchor_recall import anchor_recall, best_anchor_iou


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """`xyxy [count, 4]` in 0..1."""
    low = rng.uniform(0, 0.7, (count, 2))
    return np.concatenate([low, low + rng.uniform(0.02, 0.3, (count, 2))], axis=1)


def test_best_iou_equals_torchvision_over_several_blocks() -> None:
    rng = np.random.default_rng(0)
    boxes, anchors = random_boxes(rng, 700), random_boxes(rng, 90)
    expected = box_iou(torch.tensor(boxes), torch.tensor(anchors)).max(dim=1).values
    np.testing.assert_allclose(best_anchor_iou(boxes, anchors), expected, atol=1e-6)


def test_without_anchors_nothing_is_reached() -> None:
    boxes = random_boxes(np.random.default_rng(0), 5)
    report = anchor_recall(boxes, np.zeros((0, 4)))
    assert report.total.recall == 0


def test_groups_by_size_aspect_and_class() -> None:
    # A small square that no anchor reaches, and a wide box that is an anchor itself.
    boxes = np.array([(0.0, 0.0, 0.04, 0.04), (0.05, 0.4, 0.95, 0.6)])
    report = anchor_recall(
        boxes, boxes[1:], labels=np.array([0, 1]), class_names=("dot", "bar", "absent")
    )
    assert report.total.recall == 0.5
    assert {row.name: row.recall for row in report.by_class} == {"dot": 0.0, "bar": 1.0}
    assert {row.name: row.recall for row in report.by_size} == {
        "side < 0.05": 0.0,
        "side 0.4 to 0.7": 1.0,
    }
    assert {row.name: row.recall for row in report.by_aspect} == {
        "width/height 0.8 to 1.2": 0.0,
        "width/height >= 3": 1.0,
    }
    for rows in (report.by_size, report.by_aspect, report.by_class):
        assert sum(row.objects for row in rows) == 2
    assert json.loads(json.dumps(report.to_dict()))["total"]["objects"] == 2
    assert "bar" in report.to_text()


@pytest.mark.parametrize(("threshold", "expected"), [(0.49, 1.0), (0.51, 0.0)])
def test_the_matching_threshold_is_used(threshold: float, expected: float) -> None:
    half = anchor_recall(
        np.array([(0.0, 0.0, 0.2, 0.2)]), np.array([(0.0, 0.0, 0.2, 0.1)]), match_iou=threshold
    )
    assert half.total.mean_best_iou == pytest.approx(0.5)
    assert half.total.recall == expected
