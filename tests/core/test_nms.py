from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

from flyweight.core.nms import class_aware_nms, nms, select_detections


def crowd(seed: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 60, (count, 2))], 1).astype(np.float32)
    return boxes, rng.random(count).astype(np.float32), rng.integers(0, classes, count)


@pytest.mark.parametrize("seed", range(8))
def test_nms_equals_torchvision(seed: int) -> None:
    boxes, scores, _ = crowd(seed, 120, 1)
    expected = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.45)
    np.testing.assert_array_equal(nms(boxes, scores, 0.45), expected.numpy())


@pytest.mark.parametrize("seed", range(8))
def test_class_aware_nms_equals_torchvision(seed: int) -> None:
    boxes, scores, labels = crowd(seed, 150, 4)
    expected = torchvision.ops.batched_nms(
        torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(labels), 0.5
    )
    np.testing.assert_array_equal(class_aware_nms(boxes, scores, labels, 0.5), expected.numpy())


def test_nothing_to_suppress() -> None:
    empty = np.zeros((0, 4), np.float32)
    assert len(nms(empty, np.zeros(0, np.float32), 0.5)) == 0


@pytest.mark.parametrize("candidates", [5, 40, 400])
def test_selection_equals_a_loop_over_classes(candidates: int) -> None:
    """The loop is torchvision's SSD.postprocess_detections, written out with its own ops."""
    rng = np.random.default_rng(3)
    boxes = crowd(3, 200, 1)[0]
    scores = rng.random((200, 3)).astype(np.float32) ** 3
    kept_boxes, kept_scores, kept_labels = [], [], []
    for label in range(3):
        column = torch.from_numpy(scores[:, label])
        chosen = torch.nonzero(column > 0.1).flatten()
        values, order = column[chosen].topk(min(candidates, len(chosen)))
        kept_boxes.append(torch.from_numpy(boxes)[chosen[order]])
        kept_scores.append(values)
        kept_labels.append(torch.full_like(order, label))
    all_boxes, all_scores, all_labels = map(torch.cat, (kept_boxes, kept_scores, kept_labels))
    keep = torchvision.ops.batched_nms(all_boxes, all_scores, all_labels, 0.5)[:30]
    found = select_detections(
        boxes,
        scores,
        score_threshold=0.1,
        iou_threshold=0.5,
        candidates_per_class=candidates,
        max_detections=30,
    )
    np.testing.assert_array_equal(found.boxes_xyxy, all_boxes[keep].numpy())
    np.testing.assert_array_equal(found.scores, all_scores[keep].numpy())
    np.testing.assert_array_equal(found.labels, all_labels[keep].numpy())
