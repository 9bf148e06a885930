"""YOLOv4's neck: paths and cost; its levels are tested with those of YOLOv3's."""

from __future__ import annotations

import torch

from flyweight.models.layers.feature_info import FeatureInfo
from flyweight.models.necks.yolo_pan import YOLOPAN

FEATURES = (FeatureInfo("C3", 24, 8), FeatureInfo("C4", 40, 16), FeatureInfo("C5", 56, 32))


def test_the_coarsest_level_hears_of_the_finest() -> None:
    """The second path: in YOLOv3's neck nothing goes from fine to coarse."""
    neck = YOLOPAN(FEATURES, channels=8, norm=None)
    features = [
        torch.randn(1, each.channels, 64 // each.stride, 64 // each.stride) for each in FEATURES
    ]
    features[0].requires_grad_()
    (gradient,) = torch.autograd.grad(neck(features)[2].sum(), features[0])
    assert gradient.abs().sum() > 0


def test_parameters_are_those_of_the_docstring() -> None:
    b, c = [each.channels for each in FEATURES], (16, 32, 64)
    convs = b[2] * c[2] + 44 * c[2] ** 2
    for level in (0, 1):
        convs += c[level + 1] * c[level] + b[level] * c[level] + 42 * c[level] ** 2
        convs += 9 * c[level] * c[level + 1] + 42 * c[level + 1] ** 2
    # SPP: two sets of 1 + 3 widths; then reduce, lateral, sets of 7, down, fuse.
    norms = 8 * c[2] + (1 + 1 + 7) * (c[0] + c[1]) + (1 + 7) * (c[1] + c[2])
    neck = YOLOPAN(FEATURES, channels=c)
    assert sum(each.numel() for each in neck.parameters()) == convs + 2 * norms
