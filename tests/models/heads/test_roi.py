"""The second stage's head."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import roi_pool

from flyweight.models.heads.roi import RoIHead

STRIDES = (4, 8, 16, 32)
BOXES = torch.tensor([[[3.0, 2, 20, 25], [5, 5, 100, 80], [0, 0, 128, 96]]] * 2)


def features() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    strides = (*STRIDES, 64)
    return [torch.randn(2, 8, 96 // s + 1, 128 // s, generator=generator) for s in strides]


def test_parameters_are_torchvisions() -> None:
    ours = RoIHead(8, STRIDES, num_classes=5, hidden_channels=32)
    theirs = (*TwoMLPHead(8 * 49, 32).parameters(), *FastRCNNPredictor(32, 6).parameters())
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs]


def test_start() -> None:
    torch.manual_seed(0)
    head = RoIHead(16, STRIDES, num_classes=80, hidden_channels=256)
    assert head.classification.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert head.regression.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not any(layer.bias.any() for layer in (head.fc6, head.fc7, head.regression))


def test_shapes_and_levels() -> None:
    head = RoIHead(8, STRIDES, num_classes=5, hidden_channels=32)
    levels = features()
    logits, deltas = head(levels, BOXES)
    assert logits.shape == (2, 3, 6)
    assert deltas.shape == (2, 3, 6, 4)
    for mine, static in zip((logits, deltas), head(levels, BOXES, static=True), strict=True):
        torch.testing.assert_close(mine, static)
    # What is beyond the strides is the RPN's alone.
    levels[-1] += 1
    assert torch.equal(head(levels, BOXES)[0], logits)


def test_each_image_is_pooled_from_its_own_features() -> None:
    head = RoIHead(8, STRIDES, num_classes=5, hidden_channels=32)
    levels = features()
    logits, _ = head(levels, BOXES)
    alone, _ = head([level[1:] for level in levels], BOXES[1:])
    torch.testing.assert_close(logits[1:], alone)


def test_the_ancestor_pools_the_maximum() -> None:
    head = RoIHead(8, (16,), num_classes=5, hidden_channels=32, pool="pool")
    level = features()[2]
    rois = torch.cat((torch.zeros(3, 1), BOXES[0]), dim=1)
    pooled = roi_pool(level, rois, (7, 7), spatial_scale=1 / 16)
    hidden = head.fc7(head.fc6(pooled.flatten(1)).relu()).relu()
    logits, _ = head([level], BOXES)
    torch.testing.assert_close(logits[0], head.classification(hidden))
