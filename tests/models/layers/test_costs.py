"""Each block's formulas for parameters and MACs, against torch's own FLOP counter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flyweight.models.layers import (
    SPP,
    BasicBlock,
    Bottleneck,
    ChannelShuffle,
    CmBN,
    ConvNormAct,
    CSPStage,
    DarknetResidual,
    DeformableConv,
    DeformableConvNormAct,
    DepthwiseSeparable,
    DropBlock,
    Fire,
    FrozenBatchNorm,
    GhostBottleneck,
    GhostModule,
    GlobalAveragePool,
    InvertedResidual,
    L2Norm,
    ShuffleUnitV1,
    ShuffleUnitV2,
    SqueezeExcite,
    TransposedConvNormAct,
    group_norm,
)


def _deformable_flops(
    _: torch.Size, weight: torch.Size, *args: object, out_shape: torch.Size, **options: object
) -> int:
    return 2 * out_shape.numel() * weight[1:].numel()


def _measured(module: nn.Module, channels: int, size: int) -> tuple[int, int]:
    """Parameters, and MACs on one [channels, size, size] input."""
    # torch's counter does not know torchvision's operation: it is counted as the convolution is.
    known = {torch.ops.torchvision.deform_conv2d: _deformable_flops}
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
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


def test_dilation_costs_nothing_and_groups_divide() -> None:
    assert _measured(ConvNormAct(8, 8, dilation=2), 8, 10) == _measured(ConvNormAct(8, 8), 8, 10)
    _, full = _measured(ConvNormAct(8, 8), 8, 10)
    _, grouped = _measured(ConvNormAct(8, 8, groups=4), 8, 10)
    assert grouped * 4 == full


@pytest.mark.parametrize(("groups", "kernel_size"), [(1, 4), (4, 2)])
def test_transposed_conv(groups: int, kernel_size: int) -> None:
    block = TransposedConvNormAct(8, 12, kernel_size=kernel_size, groups=groups)
    weights = kernel_size**2 * 8 * 12 // groups
    assert _measured(block, 8, 6) == (weights + 2 * 12, weights * 36)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("modulated", "numbers"), [(False, 2), (True, 3)])
def test_deformable_conv(modulated: bool, numbers: int, groups: int) -> None:
    weights, offsets = 9 * 8 * 12 // groups, 9 * 8 * numbers * 9
    conv = DeformableConv(8, 12, stride=2, groups=groups, modulated=modulated)
    parameters = weights + offsets + numbers * 9
    assert _measured(conv, 8, 10) == (parameters + 12, (weights + offsets) * 25)
    block = DeformableConvNormAct(8, 12, stride=2, groups=groups, modulated=modulated)
    assert _measured(block, 8, 10) == (parameters + 24, (weights + offsets) * 25)


@pytest.mark.parametrize("norm", [None, nn.BatchNorm2d])
def test_fire(norm: type[nn.BatchNorm2d] | None) -> None:
    fire = Fire(24, squeeze_channels=8, expand_channels=16, norm=norm)
    weights = 24 * 8 + 10 * 8 * 16
    per_channel = 1 if norm is None else 2
    assert _measured(fire, 24, 6) == (weights + per_channel * (8 + 2 * 16), weights * 36)


@pytest.mark.parametrize(("in_channels", "stride"), [(48, 1), (24, 2)])
@pytest.mark.parametrize("groups", [1, 3])
def test_shuffle_unit_v1(groups: int, in_channels: int, stride: int) -> None:
    unit = ShuffleUnitV1(in_channels, 48, groups=groups, stride=stride)
    middle, expanded = 12, 48 if stride == 1 else 48 - in_channels
    compress = in_channels * middle // groups
    rest = 9 * middle + middle * expanded // groups
    parameters = compress + rest + 2 * (2 * middle + expanded)
    macs = compress * 64 + rest * (8 // stride) ** 2
    assert _measured(unit, in_channels, 8) == (parameters, macs)


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_shuffle_unit_v2(kernel_size: int) -> None:
    half, area = 12, kernel_size**2
    unit = ShuffleUnitV2(24, 24, kernel_size=kernel_size)
    weights = 2 * half**2 + area * half
    assert _measured(unit, 24, 8) == (weights + 6 * half, weights * 64)
    unit = ShuffleUnitV2(16, 24, kernel_size=kernel_size, stride=2)
    fine, coarse = 16 * half, area * 16 + 16 * half + area * half + half**2
    parameters = fine + coarse + 2 * 16 + 8 * half
    assert _measured(unit, 16, 8) == (parameters, fine * 64 + coarse * 16)


@pytest.mark.parametrize(("ratio", "out_channels"), [(2, 16), (3, 16), (2, 15)])
def test_ghost_module(ratio: int, out_channels: int) -> None:
    primary = -(-out_channels // ratio)
    weights = 8 * primary + 9 * (ratio - 1) * primary
    module = GhostModule(8, out_channels, ratio=ratio)
    assert _measured(module, 8, 6) == (weights + 2 * ratio * primary, weights * 36)


@pytest.mark.parametrize(("in_channels", "stride"), [(16, 1), (8, 1), (16, 2)])
def test_ghost_bottleneck(in_channels: int, stride: int) -> None:
    block = GhostBottleneck(in_channels, 16, expanded_channels=48, kernel_size=5, stride=stride)
    down, project = stride == 2, stride == 2 or in_channels != 16
    fine = (in_channels + 9) * 24
    coarse = down * 25 * 48 + (48 + 9) * 8 + project * (25 * in_channels + in_channels * 16)
    norms = 2 * (48 + down * 48 + 16 + project * (in_channels + 16))
    macs = fine * 64 + coarse * (8 // stride) ** 2
    assert _measured(block, in_channels, 8) == (fine + coarse + norms, macs)


@pytest.mark.parametrize(("in_channels", "stride"), [(16, 1), (8, 2)])
def test_basic_block(in_channels: int, stride: int) -> None:
    project = in_channels != 16
    weights = 9 * in_channels * 16 + 9 * 16**2 + project * in_channels * 16
    parameters = weights + 4 * 16 + project * 2 * 16
    block = BasicBlock(in_channels, 16, stride=stride)
    assert _measured(block, in_channels, 8) == (parameters, weights * (8 // stride) ** 2)


@pytest.mark.parametrize(("in_channels", "stride"), [(32, 1), (16, 2)])
def test_bottleneck(in_channels: int, stride: int) -> None:
    project = in_channels != 32
    fine, coarse = in_channels * 8, 9 * 8**2 + 8 * 32 + project * in_channels * 32
    parameters = fine + coarse + 4 * 8 + 2 * 32 + project * 2 * 32
    block = Bottleneck(in_channels, 32, bottleneck_channels=8, stride=stride)
    assert _measured(block, in_channels, 8) == (
        parameters,
        fine * 64 + coarse * (8 // stride) ** 2,
    )


def test_darknet_residual() -> None:
    block = DarknetResidual(16, bottleneck_channels=8)
    assert _measured(block, 16, 6) == (10 * 16 * 8 + 2 * (16 + 8), 10 * 16 * 8 * 36)


@pytest.mark.parametrize("depth", [1, 3])
def test_csp_stage(depth: int) -> None:
    stage = CSPStage(16, 24, part_channels=12, bottleneck_channels=8, depth=depth)
    weights = 2 * 16 * 12 + 10 * depth * 12 * 8 + 12**2 + 2 * 12 * 24
    norms = 2 * (3 * 12 + depth * (8 + 12) + 24)
    assert _measured(stage, 16, 6) == (weights + norms, weights * 36)


@pytest.mark.parametrize(
    ("layer", "parameters"),
    [
        (ChannelShuffle(2), 0),
        (SPP(), 0),
        (GlobalAveragePool(), 0),
        (DropBlock(), 0),
        (L2Norm(12), 12),
        (group_norm(12), 24),
        (FrozenBatchNorm(12), 24),
        (CmBN(12, mini_batches=2), 24),
    ],
)
def test_layers_without_macs(layer: nn.Module, parameters: int) -> None:
    assert _measured(layer, 12, 8) == (parameters, 0)
