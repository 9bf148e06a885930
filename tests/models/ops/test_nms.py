"""The choice of detections: against the rule class by class, and against core's in numpy."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import ops

from flyweight.core.nms import NmsKind
from flyweight.core.nms import select_detections as select_in_numpy
from flyweight.models.ops.nms import class_aware_nms, select_detections, soft_nms, top_candidates


def dense(seed: int, *, anchors: int = 200, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(anchors, 2, generator=generator) * 60
    size = 5 + torch.rand(anchors, 2, generator=generator) * 40
    scores = torch.rand(anchors, classes, generator=generator) ** 3
    return torch.cat((corner, corner + size), dim=1), scores


def select_class_by_class(
    boxes: Tensor, scores: Tensor, *, score: float, iou: float, per_class: int, total: int
) -> tuple[Tensor, Tensor, Tensor]:
    """SSD's rule, one class after the other."""
    parts = []
    for label in range(scores.shape[1]):
        values = scores[:, label]
        index = torch.nonzero(values > score)[:, 0]
        index = index[values[index].argsort(descending=True)][:per_class]
        index = index[ops.nms(boxes[index], values[index], iou)]
        parts.append((boxes[index], values[index], torch.full_like(index, label)))
    merged = [torch.cat(each) for each in zip(*parts, strict=True)]
    order = merged[1].argsort(descending=True)[:total]
    return merged[0][order], merged[1][order], merged[2][order]


@pytest.mark.parametrize(
    ("score", "per_class", "total"),
    [(0.05, 400, 300), (0.05, 10, 300), (0.3, 400, 12), (0.0, 1, 300), (0.999, 400, 300)],
)
def test_selection_is_the_rule_class_by_class(score: float, per_class: int, total: int) -> None:
    boxes, scores = dense(seed=per_class + total)
    expected = select_class_by_class(
        boxes, scores, score=score, iou=0.5, per_class=per_class, total=total
    )
    limits = {
        "score_threshold": score,
        "iou_threshold": 0.5,
        "candidates_per_class": per_class,
        "max_detections": total,
    }
    found = select_detections(boxes, scores, **limits)
    for mine, other in zip(found, expected, strict=True):
        assert torch.equal(mine, other)
    in_numpy = select_in_numpy(boxes.numpy(), scores.numpy(), **limits)
    assert torch.equal(torch.from_numpy(in_numpy.boxes_xyxy), found[0])
    assert torch.equal(torch.from_numpy(in_numpy.labels), found[2])


def test_no_score_above_the_threshold() -> None:
    boxes, scores = dense(seed=0)
    found = select_detections(
        boxes,
        scores * 0,
        score_threshold=0.1,
        iou_threshold=0.5,
        candidates_per_class=10,
        max_detections=10,
    )
    assert [len(each) for each in found] == [0, 0, 0]
    assert found[0].shape == (0, 4)


def test_candidates_are_counted_for_each_class_alone() -> None:
    _, scores = dense(seed=1, anchors=50, classes=3)
    values, anchors, labels = top_candidates(scores, score_threshold=0.0, per_class=5)
    assert torch.bincount(labels).tolist() == [5, 5, 5]
    for label in range(3):
        best = scores[:, label].topk(5).indices
        assert set(anchors[labels == label].tolist()) == set(best.tolist())
    assert torch.equal(values, scores[anchors, labels])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["greedy", "diou", "soft_linear", "soft_gaussian"]),
    anchors=st.integers(0, 120),
    classes=st.integers(1, 4),
    per_class=st.sampled_from([5, 400]),
    floor=st.sampled_from([0.0, 0.1, 0.9]),
)
def test_every_kind_selects_what_numpy_selects(
    seed: int, kind: NmsKind, anchors: int, classes: int, per_class: int, floor: float
) -> None:
    boxes, scores = dense(seed, anchors=anchors, classes=classes)
    limits = {
        "score_threshold": floor,
        "iou_threshold": 0.45,
        "candidates_per_class": per_class,
        "max_detections": 50,
    }
    found = select_detections(boxes, scores, **limits, kind=kind, sigma=0.4)
    in_numpy = select_in_numpy(boxes.numpy(), scores.numpy(), **limits, kind=kind, sigma=0.4)
    assert torch.equal(found[0], torch.from_numpy(in_numpy.boxes_xyxy))
    assert torch.equal(found[1], torch.from_numpy(in_numpy.scores))
    assert torch.equal(found[2], torch.from_numpy(in_numpy.labels))


@pytest.mark.parametrize("kind", ["soft_linear", "soft_gaussian"])
def test_soft_nms_lowers_scores_and_keeps_their_type(kind: str) -> None:
    boxes, scores = dense(seed=1, anchors=40, classes=1)
    values = scores[:, 0].bfloat16()
    labels = torch.arange(40) % 2
    keep, lowered = soft_nms(boxes, values, labels, 0.2, kind=kind, score_threshold=0.05)
    assert keep.dtype == torch.int64
    assert lowered.dtype == torch.bfloat16
    assert (lowered <= values[keep]).all()
    assert (lowered < values[keep]).any()
    assert (lowered.diff() <= 0).all()


def test_diou_nms_keeps_more_than_greedy() -> None:
    boxes, scores = dense(seed=2)
    labels = torch.arange(200) % 2
    greedy = class_aware_nms(boxes, scores[:, 0], labels, 0.4)
    assert torch.equal(greedy, ops.batched_nms(boxes, scores[:, 0], labels, 0.4))
    assert len(class_aware_nms(boxes, scores[:, 0], labels, 0.4, kind="diou")) > len(greedy)
