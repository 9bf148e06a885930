"""Transposed and deformable convolutions, against plain ones on rearranged inputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import DeformConv2d

from flyweight.models.layers import (
    ConvNormAct,
    DeformableConv,
    DeformableConvNormAct,
    TransposedConvNormAct,
)


@pytest.mark.parametrize(("kernel_size", "stride"), [(4, 2), (2, 2), (3, 1), (8, 4)])
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_is_a_convolution_of_the_spread_input(
    kernel_size: int, stride: int, groups: int
) -> None:
    block = TransposedConvNormAct(
        4, 6, kernel_size=kernel_size, stride=stride, groups=groups, norm=None, act=None
    )
    x = torch.randn(2, 4, 5, 3)
    spread = x.new_zeros(2, 4, 4 * stride + 1, 2 * stride + 1)
    spread[..., ::stride, ::stride] = x
    # [C_in, C_out / g, k, k] turned by 180 degrees and transposed within each group.
    weight = block.conv.weight.unflatten(0, (groups, -1)).flip(-1, -2)
    weight = weight.transpose(1, 2).flatten(0, 1)
    rim = kernel_size - 1 - (kernel_size - stride) // 2
    expected = functional.conv2d(spread, weight, block.conv.bias, padding=rim, groups=groups)
    out = block(x)
    assert out.shape == (2, 6, 5 * stride, 3 * stride)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


def test_transposed_names_its_children_like_a_convolution() -> None:
    names = [name for name, _ in TransposedConvNormAct(3, 4).named_children()]
    assert names == [name for name, _ in ConvNormAct(3, 4).named_children()]
    assert [name for name, _ in DeformableConvNormAct(3, 4).named_children()] == names


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (1, 2, 1)])
def test_deformable_starts_as_a_plain_convolution(
    modulated: bool, stride: int, dilation: int, groups: int
) -> None:
    conv = DeformableConv(
        4, 6, stride=stride, dilation=dilation, groups=groups, modulated=modulated
    )
    x = torch.randn(2, 4, 9, 7)
    weight = conv.weight * (0.5 if modulated else 1)
    expected = functional.conv2d(
        x, weight, conv.bias, stride, padding=dilation, dilation=dilation, groups=groups
    )
    torch.testing.assert_close(conv(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_equals_torchvision_with_any_offsets(modulated: bool) -> None:
    conv = DeformableConv(4, 6, modulated=modulated)
    nn.init.normal_(conv.offset.weight, std=0.3)
    theirs = DeformConv2d(4, 6, 3, padding=1)
    theirs.load_state_dict({"weight": conv.weight.detach(), "bias": conv.bias.detach()})
    x = torch.randn(2, 4, 8, 8)
    predicted = conv.offset(x)
    mask = predicted[:, 18:].sigmoid() if modulated else None
    torch.testing.assert_close(conv(x), theirs(x, predicted[:, :18], mask))


def test_an_offset_of_one_pixel_shifts_the_samples() -> None:
    conv = DeformableConv(2, 3, modulated=False)
    with torch.no_grad():
        conv.offset.bias[1::2] = 1.0  # x of every point
    x = torch.randn(1, 2, 6, 6)
    shifted = functional.pad(x, [0, 1, 0, 0])[..., 1:]
    plain = functional.conv2d(shifted, conv.weight, conv.bias, padding=1)
    # The leftmost column samples what the shifted image has lost.
    torch.testing.assert_close(conv(x)[..., 1:], plain[..., 1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_learns_its_offsets(modulated: bool) -> None:
    block = DeformableConvNormAct(4, 6, modulated=modulated)
    block(torch.randn(2, 4, 8, 8)).square().mean().backward()
    gradient = block.conv.offset.weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0
