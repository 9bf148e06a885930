"""The RPN's head and its proposals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead as TorchvisionHead
from torchvision.ops import box_iou

from flyweight.models.heads.rpn import ProposalLayer, RPNHead
from flyweight.models.ops.anchors import AnchorGrid, relative_sizes
from flyweight.models.ops.coder import BoxCoder

SIZE_HW = (64, 96)
GRIDS = ((8, 12), (4, 6))
SIZES = (((16.0, 16.0), (24.0, 12.0)), ((32.0, 32.0), (48.0, 24.0)))
ANCHORS = 2 * (8 * 12 + 4 * 6)


def make_layer(*, candidates: int = 1000, keep: int = 1000, score: float = 0.0) -> ProposalLayer:
    anchors = AnchorGrid(GRIDS, relative_sizes(SIZES, SIZE_HW), size_hw=SIZE_HW)
    return ProposalLayer(
        anchors,
        coder=BoxCoder((1.0, 1.0, 1.0, 1.0)),
        candidates=candidates,
        keep=keep,
        score_threshold=score,
    )


def raw_outputs(images: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    objectness = torch.randn(images, ANCHORS, generator=generator)
    return objectness, 0.3 * torch.randn(images, ANCHORS, 4, generator=generator)


def test_parameters_start_and_order_are_torchvisions() -> None:
    torch.manual_seed(0)
    ours, theirs = RPNHead(64, 3), TorchvisionHead(64, 3)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    for layer in ours.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.std().item() == pytest.approx(0.01, rel=0.15)
            assert layer.bias is not None
            assert not layer.bias.any()


def test_rows_are_levels_then_cells_then_boxes() -> None:
    head = RPNHead(8, 2)
    features = [torch.randn(2, 8, 3, 4), torch.randn(2, 8, 1, 2)]
    objectness, deltas = head(features)
    assert objectness.shape == (2, 2 * (12 + 2))
    assert deltas.shape == (2, 2 * (12 + 2), 4)
    hidden = head.conv(features[1])
    # Level 2, row 0, column 1, box 1.
    torch.testing.assert_close(objectness[:, -1], head.objectness(hidden)[:, 1, 0, 1])
    torch.testing.assert_close(deltas[:, -1], head.regression(hidden)[:, 4:, 0, 1])


def test_proposals_lie_within_the_input_and_do_not_overlap_in_their_level() -> None:
    layer = make_layer()
    boxes, valid = layer(*raw_outputs())
    assert boxes.shape == (2, ANCHORS, 4)
    assert boxes.min() >= 0
    assert boxes[..., 0::2].max() <= 96
    assert boxes[..., 1::2].max() <= 64
    assert 0 < valid.sum() < valid.numel()
    assert not boxes[~valid].any()
    # Without further anchors of a second level, no two of one level overlap by more than NMS lets.
    objectness, deltas = raw_outputs(1)
    objectness[:, 2 * 8 * 12 :] = -torch.inf
    boxes, valid = make_layer(score=1e-6)(objectness, deltas)
    overlaps = box_iou(boxes[0][valid[0]], boxes[0][valid[0]]).fill_diagonal_(0)
    assert overlaps.max() <= 0.7


def test_the_best_of_each_level_then_the_best_of_all() -> None:
    objectness, deltas = raw_outputs(1)
    few = make_layer(candidates=10, keep=8)
    assert few.candidates == (10, 10)
    boxes, valid = few(objectness, deltas)
    assert boxes.shape == (1, 8, 4)
    assert valid.all()
    # The same eight as among more: the first eight of all that survive among ten a level.
    more, there = make_layer(candidates=10, keep=20)(objectness, deltas)
    assert there.sum() > 8
    same = (boxes[0][:, None] == more[0][there[0]][None]).all(-1)
    assert same.any(1).all()


def test_equal_scores_but_for_rounding_leave_the_rows_where_they_are() -> None:
    objectness, deltas = raw_outputs(1)
    layer = make_layer()
    noise = 1e-6 * torch.randn(objectness.shape, generator=torch.Generator().manual_seed(1))
    close = torch.zeros_like(objectness)
    far = 0 * deltas
    a, _ = layer(close + noise, far)
    b, _ = layer(close - noise, far)
    assert torch.equal(a, b)


def test_improbable_and_tiny_boxes_are_no_proposals() -> None:
    objectness, deltas = raw_outputs(1)
    _, valid = make_layer(score=0.9)(objectness, deltas)
    assert valid.sum() <= (objectness > math.log(9)).sum()
    deltas[..., 2] = -20.0  # widths of nothing
    _, valid = make_layer()(objectness, deltas)
    assert not valid.any()
