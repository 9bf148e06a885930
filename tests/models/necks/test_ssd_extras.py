"""SSDlite's extra levels against torchvision's."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.detection.ssdlite import _extra_block

from flyweight.models.layers.feature_info import FeatureInfo
from flyweight.models.necks.ssd_extras import SeparableExtraLevel, SSDExtras, scaled_extras


def test_level_computes_what_torchvisions_does() -> None:
    torch.manual_seed(0)
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    theirs, ours = _extra_block(24, 32, norm), SeparableExtraLevel(24, 32, norm=norm)
    names = zip(ours.state_dict(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict(dict(names))
    x = torch.randn(2, 24, 7, 5)
    torch.testing.assert_close(ours(x), theirs(x))


def test_levels_halve_and_follow_the_backbones() -> None:
    features = [FeatureInfo("C4", 24, 16), FeatureInfo("C5", 40, 32)]
    neck = SSDExtras(features, [32, 16, 16]).eval()
    levels = neck([torch.randn(1, 24, 10, 14), torch.randn(1, 40, 5, 7)])
    assert [tuple(each.shape[1:]) for each in levels] == [
        (24, 10, 14),
        (40, 5, 7),
        (32, 3, 4),
        (16, 2, 2),
        (16, 1, 1),
    ]
    assert [(info.channels, info.stride) for info in neck.feature_info] == [
        (24, 16),
        (40, 32),
        (32, 64),
        (16, 128),
        (16, 256),
    ]


@pytest.mark.parametrize(
    ("width", "min_depth", "expected"),
    [
        (1.0, 16, (512, 256, 256, 128)),
        (0.5, 16, (256, 128, 128, 64)),
        (0.1, 16, (51, 25, 25, 16)),
        (0.1, 32, (51, 32, 32, 32)),
    ],
)
def test_width_and_min_depth(width: float, min_depth: int, expected: tuple[int, ...]) -> None:
    # torchvision: max(min_depth, int(d * width_mult))
    scaled = scaled_extras((512, 256, 256, 128), width=width, min_depth=min_depth)
    assert scaled == expected
