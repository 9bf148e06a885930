"""What the blocks compute, against torchvision's blocks and plain torch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.mobilenetv3 import InvertedResidual as TorchvisionInvertedResidual
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.ops import Conv2dNormActivation, SqueezeExcitation

from flyweight.models.conversion import convert_state_dict
from flyweight.models.layers import (
    ConvNormAct,
    DepthwiseSeparable,
    InvertedResidual,
    SqueezeExcite,
    hard_swish,
    make_divisible,
    relu,
)


def _copy_weights(theirs: nn.Module, ours: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, tensor in theirs.state_dict().items():
        if tensor.is_floating_point():
            positive = name.endswith("running_var")
            tensor.copy_(torch.rand(tensor.shape, generator=generator) - (0 if positive else 0.5))
    ours.load_state_dict(convert_state_dict(theirs.state_dict(), ours, source_name="torchvision"))
    theirs.eval()
    ours.eval()


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": 5, "dilation": 2},
        {"kernel_size": 1, "groups": 2},
    ],
)
def test_conv_norm_act_equals_torchvision(options: dict[str, int]) -> None:
    theirs = Conv2dNormActivation(4, 6, **options)
    ours = ConvNormAct(4, 6, **options)
    _copy_weights(theirs, ours)
    x = torch.randn(2, 4, 9, 11)
    torch.testing.assert_close(ours(x), theirs(x))


def test_conv_norm_act_names_its_children() -> None:
    assert [name for name, _ in ConvNormAct(3, 4).named_children()] == ["conv", "norm", "act"]
    assert [name for name, _ in ConvNormAct(3, 4, act=None).named_children()] == ["conv", "norm"]
    assert [name for name, _ in ConvNormAct(3, 4, norm=None).named_children()] == ["conv", "act"]


def test_norm_factory_gets_the_output_channels() -> None:
    block = DepthwiseSeparable(8, 16, norm=lambda channels: nn.GroupNorm(4, channels))
    assert isinstance(block.depthwise.norm, nn.GroupNorm)
    assert (block.depthwise.norm.num_channels, block.pointwise.norm.num_channels) == (8, 16)


def test_depthwise_sees_one_channel_alone() -> None:
    block = DepthwiseSeparable(3, 5, norm=None, act=None, pointwise_act=None)
    x = torch.randn(1, 3, 6, 6)
    changed = x.clone()
    changed[:, 1] += 1
    difference = block.depthwise(changed) - block.depthwise(x)
    assert difference[:, [0, 2]].abs().max() == 0
    assert difference[:, 1].abs().min() > 0


def test_squeeze_excite_equals_torchvision() -> None:
    theirs = SqueezeExcitation(16, 8, scale_activation=nn.Hardsigmoid)
    ours = SqueezeExcite(16, 8)
    _copy_weights(theirs, ours)
    x = torch.randn(2, 16, 5, 7)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("squeeze", [False, True])
@pytest.mark.parametrize(("expanded", "out", "stride"), [(48, 16, 1), (48, 24, 2), (16, 16, 1)])
def test_inverted_residual_equals_torchvision(
    squeeze: bool, expanded: int, out: int, stride: int
) -> None:
    config = InvertedResidualConfig(16, 5, expanded, out, squeeze, "HS", stride, 1, 1.0)
    theirs = TorchvisionInvertedResidual(config, nn.BatchNorm2d)
    ours = InvertedResidual(
        16,
        out,
        expanded_channels=expanded,
        kernel_size=5,
        stride=stride,
        act=hard_swish,
        squeeze=(lambda c: SqueezeExcite(c, make_divisible(c // 4))) if squeeze else None,
    )
    _copy_weights(theirs, ours)
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours.widen(x).shape == (2, expanded, 8, 8)


def test_shortcut_only_where_ends_agree() -> None:
    assert InvertedResidual(16, 16, expanded_channels=32).has_shortcut
    assert not InvertedResidual(16, 16, expanded_channels=32, stride=2).has_shortcut
    assert not InvertedResidual(16, 24, expanded_channels=32).has_shortcut


def test_blocks_do_not_change_their_input() -> None:
    """Activations work in place; what a detector reads between blocks must survive."""
    x = torch.randn(1, 16, 8, 8)
    for block in (
        ConvNormAct(16, 16),
        DepthwiseSeparable(16, 16),
        InvertedResidual(16, 16, expanded_channels=32, act=relu),
        InvertedResidual(16, 16, expanded_channels=16, act=relu),
        SqueezeExcite(16, 8),
    ):
        before = x.clone()
        block(x)
        assert torch.equal(x, before)


@pytest.mark.parametrize("groups", [1, 4])
def test_a_frozen_layer_equals_the_same_layer_in_evaluation(groups: int) -> None:
    layer = ConvNormAct(8, 12, groups=groups, stride=2).eval()
    layer.norm.running_mean.normal_()
    layer.norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 8, 9, 7, requires_grad=True)
    plain = layer(x)
    layer.requires_grad_(False)
    calls: list[int] = []
    layer.norm.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(layer(x), plain, atol=1e-5, rtol=1e-5)
    assert not calls, "the norm of a frozen layer runs inside its convolution"
    with torch.no_grad():
        layer(x)
    assert calls, "outside training, hooks see every part"
