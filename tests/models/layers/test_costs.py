"""Each block's formulas for parameters and MACs, against torch's own FLOP counter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flyweight.models.layers import (
    ConvNormAct,
    DepthwiseSeparable,
    InvertedResidual,
    SqueezeExcite,
)


def _measured(module: nn.Module, channels: int, size: int) -> tuple[int, int]:
    """Parameters, and MACs on one [channels, size, size] input."""
    with FlopCounterMode(display=False) as counter:
        module.eval()(torch.zeros(1, channels, size, size))
    return sum(p.numel() for p in module.parameters()), counter.get_total_flops() // 2


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("kernel_size", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (5, 1, 2)])
def test_conv_norm_act(groups: int, kernel_size: int, stride: int, dilation: int) -> None:
    conv = ConvNormAct(
        8, 12, kernel_size=kernel_size, stride=stride, dilation=dilation, groups=groups
    )
    weights = kernel_size**2 * 8 * 12 // groups
    assert _measured(conv, 8, 10) == (weights + 2 * 12, weights * (10 // stride) ** 2)


def test_conv_without_norm_has_a_bias() -> None:
    conv = ConvNormAct(8, 12, kernel_size=1, norm=None)
    assert _measured(conv, 8, 4) == (8 * 12 + 12, 8 * 12 * 16)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_separable(stride: int) -> None:
    block = DepthwiseSeparable(8, 24, stride=stride)
    weights = 9 * 8 + 8 * 24
    assert _measured(block, 8, 12) == (weights + 2 * (8 + 24), weights * (12 // stride) ** 2)


def test_depthwise_separable_saves_what_the_paper_says() -> None:
    _, separable = _measured(DepthwiseSeparable(16, 32), 16, 8)
    _, full = _measured(ConvNormAct(16, 32), 16, 8)
    assert separable / full == pytest.approx(1 / 32 + 1 / 9)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_inverted_residual(stride: int, kernel_size: int) -> None:
    block = InvertedResidual(8, 16, expanded_channels=48, kernel_size=kernel_size, stride=stride)
    tail = kernel_size**2 * 48 + 48 * 16
    parameters = 8 * 48 + tail + 2 * (2 * 48 + 16)
    assert _measured(block, 8, 12) == (parameters, 8 * 48 * 144 + tail * (12 // stride) ** 2)


def test_squeeze_excite() -> None:
    assert _measured(SqueezeExcite(24, 8), 24, 6) == (2 * 24 * 8 + 8 + 24, 2 * 24 * 8)
