from __future__ import annotations

import pytest
import torch
from torch import nn

from flyweight.models.heads.yolo import YOLOHead, YOLOPredictor, initialise_outputs

CLASSES = 3


def make_head(**options: object) -> YOLOHead:
    return YOLOHead([16, 8], [2, 3], num_classes=CLASSES, **options)  # type: ignore[arg-type]


def test_channels_are_those_of_darknet() -> None:
    """Anchor by anchor x, y, w, h, objectness, classes; anchors of a cell innermost."""
    head = make_head(norm=None).eval()
    for predictor in head.prediction.levels:
        assert isinstance(predictor, YOLOPredictor)
        nn.init.zeros_(predictor.output.weight)
        assert predictor.output.bias is not None
        predictor.output.bias.data = torch.arange(len(predictor.output.bias)).float()
    offsets, objectness, logits = head([torch.rand(1, 16, 2, 2), torch.rand(1, 8, 1, 2)])
    assert offsets.shape == (1, 4 * 2 + 2 * 3, 4)
    columns = 5 + CLASSES
    for anchor, first in ((0, 0), (1, columns), (6, 0), (8, 0), (10, 2 * columns), (13, 16)):
        assert offsets[0, anchor].tolist() == [first, first + 1, first + 2, first + 3]
        assert objectness[0, anchor] == first + 4
        assert logits[0, anchor].tolist() == [first + 5, first + 6, first + 7]


def test_an_untrained_head_expects_next_to_nothing() -> None:
    head = make_head().eval()
    initialise_outputs(head, prior=0.02)
    with torch.no_grad():
        offsets, objectness, logits = head([torch.randn(1, 16, 4, 4), torch.randn(1, 8, 2, 2)])
    assert offsets.abs().max() < 0.2
    assert objectness.sigmoid().mean().item() == pytest.approx(0.02, rel=0.05)
    assert logits.sigmoid().mean().item() == pytest.approx(0.02, rel=0.05)


def test_parameters_are_those_of_the_docstring() -> None:
    channels, boxes, columns = 8, 3, 5 + CLASSES
    predictor = YOLOPredictor(channels, boxes * columns)
    expected = 18 * channels**2 + 4 * channels + (2 * channels + 1) * boxes * columns
    assert sum(each.numel() for each in predictor.parameters()) == expected
