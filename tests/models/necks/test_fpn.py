"""FPN against torchvision's, PAN against its paper's sums, and the levels beyond the backbone's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from flyweight.models.conversion import convert_state_dict
from flyweight.models.layers.feature_info import FeatureInfo
from flyweight.models.necks import FPN, PAN, PYRAMIDS

INFOS = [FeatureInfo("C3", 8, 8), FeatureInfo("C4", 12, 16), FeatureInfo("C5", 20, 32)]
CHANNELS = 16


@pytest.fixture
def features() -> list[Tensor]:
    """Three levels of odd sizes, so that upsampling must hit them exactly."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(13, 18), (7, 9), (4, 5)]
    return [
        torch.randn(2, info.channels, *size, generator=generator)
        for info, size in zip(INFOS, sizes, strict=True)
    ]


@pytest.mark.parametrize(
    ("extra", "coarser", "levels"),
    [
        (LastLevelP6P7(CHANNELS, CHANNELS), "P5", 5),
        (LastLevelP6P7(20, CHANNELS), "C5", 5),
        (LastLevelMaxPool(), "pool", 4),
    ],
)
def test_fpn_is_torchvisions(
    extra: nn.Module, coarser: str, levels: int, features: list[Tensor]
) -> None:
    torch.manual_seed(0)
    theirs = FeaturePyramidNetwork([8, 12, 20], CHANNELS, extra_blocks=extra)
    ours = FPN(INFOS, channels=CHANNELS, num_levels=levels, coarser=coarser)  # type: ignore[arg-type]
    ours.load_state_dict(convert_state_dict(theirs.state_dict(), ours, source_name="theirs"))
    expected = list(theirs({str(index): each for index, each in enumerate(features)}).values())
    found = ours(features)
    assert len(found) == len(expected) == levels
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other)


def test_pan_adds_on_the_way_back(features: list[Tensor]) -> None:
    torch.manual_seed(0)
    pan = PAN(INFOS, channels=CHANNELS, num_levels=3).eval()
    pyramid = pan.fpn(features)
    # Figure 2 of the paper, with torch's own functions.
    expected = [pyramid[0]]
    for down, fuse, level in zip(pan.down, pan.fuse, pyramid[1:], strict=True):
        x = functional.conv2d(expected[-1], down.conv.weight, down.conv.bias, 2, 1)
        x = level + x.relu()
        expected.append(functional.conv2d(x, fuse.conv.weight, fuse.conv.bias, 1, 1).relu())
    for mine, other in zip(pan(features), expected, strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("name", PYRAMIDS)
@pytest.mark.parametrize("levels", [2, 3, 5])
def test_what_a_pyramid_publishes_is_what_it_gives(
    name: str, levels: int, features: list[Tensor]
) -> None:
    neck = PYRAMIDS[name](INFOS, channels=CHANNELS, num_levels=levels, norm=nn.BatchNorm2d).eval()
    found = neck(features)
    assert [info.name for info in neck.feature_info] == ["P3", "P4", "P5", "P6", "P7"][:levels]
    assert [info.stride for info in neck.feature_info] == [8, 16, 32, 64, 128][:levels]
    assert [each.shape[1] for each in found] == [CHANNELS] * levels
    sizes = [(13, 18), (7, 9), (4, 5), (2, 3), (1, 2)]
    assert [tuple(each.shape[2:]) for each in found] == sizes[:levels]
    torch.stack([each.sum() for each in found]).sum().backward()
    assert [key for key, each in neck.named_parameters() if each.grad is None] == []


def test_separable_convolutions_are_cheaper() -> None:
    for kind in (FPN, PAN):
        dense, separable = (
            sum(each.numel() for each in kind(INFOS, separable=choice).parameters())
            for choice in (False, True)
        )
        assert separable < 0.7 * dense
