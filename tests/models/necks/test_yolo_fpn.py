"""YOLOv3's neck: levels, widths, cost. What it computes is compared in `test_darknet_weights`."""

from __future__ import annotations

import pytest
import torch

from flyweight.models.layers.feature_info import FeatureInfo
from flyweight.models.necks import PYRAMIDS
from flyweight.models.necks.yolo_fpn import YOLOFPN, ConvSet

FEATURES = (FeatureInfo("C3", 24, 8), FeatureInfo("C4", 40, 16), FeatureInfo("C5", 56, 32))


def features_of(height: int, width: int, batch: int = 2) -> list[torch.Tensor]:
    return [
        torch.randn(batch, each.channels, -(-height // each.stride), -(-width // each.stride))
        for each in FEATURES
    ]


@pytest.mark.parametrize("name", ["yolo_fpn", "yolo_pan"])
@pytest.mark.parametrize("size", [(64, 96), (72, 100)])
@pytest.mark.parametrize("channels", [16, (16, 32, 64)])
@pytest.mark.parametrize(("num_levels", "coarser"), [(2, "P5"), (3, "P5"), (5, "C5"), (4, "pool")])
def test_levels_are_as_published_by_feature_info(
    name: str,
    size: tuple[int, int],
    channels: int | tuple[int, ...],
    num_levels: int,
    coarser: str,
) -> None:
    neck = PYRAMIDS[name](FEATURES, channels=channels, num_levels=num_levels, coarser=coarser)
    levels = neck.eval()(features_of(*size))
    assert [each.name for each in neck.feature_info] == ["P3", "P4", "P5", "P6", "P7"][:num_levels]
    for level, info in zip(levels, neck.feature_info, strict=True):
        expected = (info.channels, -(-size[0] // info.stride), -(-size[1] // info.stride))
        assert level.shape == (2, *expected)
    widths = [each.channels for each in neck.feature_info[:3]]
    assert widths == ([16] * 3 if channels == 16 else [16, 32, 64])[:num_levels]


@pytest.mark.parametrize("name", ["yolo_fpn", "yolo_pan"])
def test_every_weight_is_used_and_every_level_sees_the_coarsest(name: str) -> None:
    neck = PYRAMIDS[name](FEATURES, channels=(8, 16, 32), num_levels=4, norm=None)
    features = features_of(64, 64, batch=1)
    features[-1].requires_grad_()
    levels = neck(features)
    for level in levels:
        (gradient,) = torch.autograd.grad(level.sum(), features[-1], retain_graph=True)
        assert gradient.abs().sum() > 0
    sum(level.sum() for level in levels).backward()
    assert [key for key, each in neck.named_parameters() if each.grad is None] == []


def test_parameters_are_those_of_the_docstring() -> None:
    b, c = [each.channels for each in FEATURES], (16, 32, 64)
    convs = b[2] * c[2] + 40 * c[2] ** 2
    for level in (0, 1):
        convs += c[level + 1] * c[level] + (b[level] + c[level]) * c[level] + 40 * c[level] ** 2
    norms = 2 * (sum(c) * 7 + c[0] + c[1])
    neck = YOLOFPN(FEATURES, channels=c)
    assert sum(each.numel() for each in neck.parameters()) == convs + norms
    one = ConvSet(24, 16, depth=1)
    assert sum(each.numel() for each in one.parameters()) == 24 * 16 + 20 * 256 + 2 * (16 + 48)


def test_too_few_widths() -> None:
    with pytest.raises(ValueError, match="channels of 2 levels, but the pyramid has 3"):
        YOLOFPN(FEATURES, channels=(16, 32))
