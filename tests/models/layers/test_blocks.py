"""What the blocks compute, against torchvision's blocks and plain torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from timm.models.cspnet import DarkBlock
from timm.models.ghostnet import GhostBottleneck as TimmGhostBottleneck
from timm.models.ghostnet import GhostModule as TimmGhostModule
from torch import nn
from torch.nn import functional
from torchvision.models.mobilenetv3 import InvertedResidual as TorchvisionInvertedResidual
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.models.resnet import BasicBlock as TorchvisionBasicBlock
from torchvision.models.resnet import Bottleneck as TorchvisionBottleneck
from torchvision.models.shufflenetv2 import InvertedResidual as TorchvisionShuffleUnit
from torchvision.models.shufflenetv2 import channel_shuffle
from torchvision.models.squeezenet import Fire as TorchvisionFire
from torchvision.ops import Conv2dNormActivation, SqueezeExcitation

from flyweight.core.errors import InputError
from flyweight.models.conversion import convert_state_dict
from flyweight.models.layers import (
    SPP,
    BasicBlock,
    Bottleneck,
    ChannelShuffle,
    ChannelSplit,
    ConvNormAct,
    CSPStage,
    DarknetResidual,
    DeformableConvNormAct,
    DepthwiseSeparable,
    Fire,
    GhostBottleneck,
    GhostModule,
    InvertedResidual,
    ShuffleUnitV1,
    ShuffleUnitV2,
    SqueezeExcite,
    TransposedConvNormAct,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    make_divisible,
    mish,
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
        {"kernel_size": 3, "groups": 2, "dilation": 6},
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


def _new_blocks(*, norm: type[nn.BatchNorm2d] | None) -> list[nn.Module]:
    """One of each block, 16 channels in."""
    return [
        BasicBlock(16, 16, norm=norm),
        BasicBlock(16, 24, stride=2, norm=norm),
        Bottleneck(16, 16, bottleneck_channels=8, norm=norm),
        Bottleneck(16, 32, bottleneck_channels=8, norm=norm),
        DarknetResidual(16, bottleneck_channels=8, norm=norm),
        CSPStage(16, 16, part_channels=8, bottleneck_channels=4, depth=2, norm=norm),
        Fire(16, squeeze_channels=8, expand_channels=8, norm=norm),
        ShuffleUnitV1(16, 16, groups=2, norm=norm),
        ShuffleUnitV1(16, 32, groups=2, stride=2, norm=norm),
        ShuffleUnitV2(16, 16, norm=norm),
        ShuffleUnitV2(16, 32, stride=2, norm=norm),
        GhostModule(16, 16, norm=norm),
        GhostBottleneck(16, 16, expanded_channels=32, norm=norm),
        GhostBottleneck(16, 24, expanded_channels=32, stride=2, norm=norm),
        TransposedConvNormAct(16, 8, norm=norm),
        DeformableConvNormAct(16, 8, norm=norm),
    ]


def test_every_block_trains_without_norm() -> None:
    for block in _new_blocks(norm=None):
        out = block(torch.randn(2, 16, 8, 8))
        out.square().mean().backward()
        for name, module in block.named_modules():
            assert not isinstance(module, nn.BatchNorm2d)
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                assert module.bias is not None, name
        for name, parameter in block.named_parameters():
            assert parameter.grad is not None, (type(block), name)


def test_blocks_do_not_change_their_input() -> None:
    """Activations work in place; what a detector reads between blocks must survive."""
    x = torch.randn(1, 16, 8, 8)
    for block in (
        ConvNormAct(16, 16),
        DepthwiseSeparable(16, 16),
        InvertedResidual(16, 16, expanded_channels=32, act=relu),
        InvertedResidual(16, 16, expanded_channels=16, act=relu),
        SqueezeExcite(16, 8),
        *_new_blocks(norm=nn.BatchNorm2d),
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


@pytest.mark.parametrize(("out", "stride"), [(16, 1), (24, 2), (24, 1)])
def test_basic_block_equals_torchvision(out: int, stride: int) -> None:
    downsample = None
    if out != 16 or stride != 1:
        downsample = nn.Sequential(nn.Conv2d(16, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    theirs = TorchvisionBasicBlock(16, out, stride, downsample)
    ours = BasicBlock(16, out, stride=stride)
    _copy_weights(theirs, ours)
    x = torch.randn(2, 16, 9, 7)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(("in_channels", "stride"), [(32, 1), (16, 2)])
def test_bottleneck_equals_torchvision(in_channels: int, stride: int) -> None:
    downsample = None
    if in_channels != 32:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, 32, 1, stride, bias=False), nn.BatchNorm2d(32)
        )
    theirs = TorchvisionBottleneck(in_channels, 8, stride, downsample)
    ours = Bottleneck(in_channels, 32, bottleneck_channels=8, stride=stride)
    _copy_weights(theirs, ours)
    x = torch.randn(2, in_channels, 9, 7)
    torch.testing.assert_close(ours(x), theirs(x))


def test_fire_equals_torchvision() -> None:
    theirs = TorchvisionFire(16, 4, 12, 12)
    ours = Fire(16, squeeze_channels=4, expand_channels=12)
    _copy_weights(theirs, ours)
    x = torch.randn(2, 16, 7, 5)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("groups", [2, 3, 8])
def test_channel_shuffle(groups: int) -> None:
    x = torch.randn(2, 24, 3, 5)
    shuffled = ChannelShuffle(groups)(x)
    assert torch.equal(shuffled, channel_shuffle(x, groups))
    # The other number of groups undoes it.
    assert torch.equal(ChannelShuffle(24 // groups)(shuffled), x)


def test_channel_split_gives_views() -> None:
    x = torch.randn(2, 6, 3, 5)
    first, second = ChannelSplit()(x)
    assert torch.equal(torch.cat((first, second), dim=1), x)
    assert first.data_ptr() == x.data_ptr()


@pytest.mark.parametrize(("in_channels", "stride"), [(24, 1), (16, 2)])
def test_shuffle_unit_v2_equals_torchvision(in_channels: int, stride: int) -> None:
    theirs = TorchvisionShuffleUnit(in_channels, 24, stride)
    ours = ShuffleUnitV2(in_channels, 24, stride=stride)
    _copy_weights(theirs, ours)
    x = torch.randn(2, in_channels, 9, 7)
    torch.testing.assert_close(ours(x), theirs(x))


def _restated_unit(
    unit: ShuffleUnitV1, x: torch.Tensor, *, groups: int, stride: int
) -> torch.Tensor:
    """Figure 2b and 2c of the paper, without norms, in plain functions."""
    weights = dict(unit.named_parameters())

    def conv(x: torch.Tensor, name: str, **options: int) -> torch.Tensor:
        weight, bias = weights[f"{name}.conv.weight"], weights[f"{name}.conv.bias"]
        return functional.conv2d(x, weight, bias, **options)

    out = conv(x, "compress", groups=groups).relu()
    out = channel_shuffle(out, groups)
    out = conv(out, "depthwise", stride=stride, padding=1, groups=out.shape[1])
    out = conv(out, "expand", groups=groups)
    if stride == 1:
        return (x + out).relu()
    return torch.cat((functional.avg_pool2d(x, 3, 2, 1), out), dim=1).relu()


@pytest.mark.parametrize(("in_channels", "stride"), [(48, 1), (24, 2)])
def test_shuffle_unit_v1_equals_its_restatement(in_channels: int, stride: int) -> None:
    unit = ShuffleUnitV1(in_channels, 48, groups=3, stride=stride, norm=None)
    x = torch.randn(2, in_channels, 9, 7)
    expected = _restated_unit(unit, x, groups=3, stride=stride)
    assert expected.shape == (2, 48, -(-9 // stride), -(-7 // stride))
    torch.testing.assert_close(unit(x), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 24, "out_channels": 24, "groups": 4}, "4 groups .* 6 .* bottleneck"),
        ({"in_channels": 18, "out_channels": 48, "groups": 4, "stride": 2}, "18 .* input"),
        ({"in_channels": 24, "out_channels": 48, "groups": 3}, "24 channels in, 48 out"),
        ({"in_channels": 22, "out_channels": 22, "groups": 1}, "no multiple of 4"),
        ({"in_channels": 48, "out_channels": 48, "groups": 1, "stride": 2}, "0 .* expansion"),
    ],
)
def test_impossible_shuffle_units_v1(arguments: dict[str, int], message: str) -> None:
    in_channels, out_channels = arguments.pop("in_channels"), arguments.pop("out_channels")
    with pytest.raises(InputError, match=message):
        ShuffleUnitV1(in_channels, out_channels, **arguments)


def test_impossible_shuffle_units_v2() -> None:
    with pytest.raises(InputError, match="even number of output channels"):
        ShuffleUnitV2(16, 23, stride=2)
    with pytest.raises(InputError, match="16 in and 24 out"):
        ShuffleUnitV2(16, 24)


@pytest.mark.parametrize("out", [16, 15])
def test_ghost_module_equals_timm(out: int) -> None:
    theirs = TimmGhostModule(8, out)
    ours = GhostModule(8, out)
    _copy_weights(theirs, ours)
    x = torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("squeeze", [False, True])
@pytest.mark.parametrize(("in_channels", "stride"), [(16, 1), (8, 1), (16, 2)])
def test_ghost_bottleneck_equals_timm(in_channels: int, stride: int, squeeze: bool) -> None:
    theirs = TimmGhostBottleneck(
        in_channels, 48, 16, dw_kernel_size=5, stride=stride, se_ratio=0.25 * squeeze
    )
    ours = GhostBottleneck(
        in_channels,
        16,
        expanded_channels=48,
        kernel_size=5,
        stride=stride,
        squeeze=(lambda channels: SqueezeExcite(channels, 12)) if squeeze else None,
    )
    _copy_weights(theirs, ours)
    x = torch.randn(2, in_channels, 8, 8)
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours.widen(x).shape == (2, 48, 8, 8)


def test_darknet_residual_equals_timm() -> None:
    theirs = DarkBlock(16, 16, act_layer=nn.ReLU)
    ours = DarknetResidual(16, bottleneck_channels=8, act=relu)
    _copy_weights(theirs, ours)
    x = torch.randn(2, 16, 5, 7)
    torch.testing.assert_close(ours(x), theirs(x))


def test_csp_stage_equals_its_restatement() -> None:
    """The routes of `yolov4.cfg`, stage 2 on, layer by layer."""
    stage = CSPStage(16, 16, part_channels=8, bottleneck_channels=8, depth=2).eval()
    x = torch.randn(2, 16, 5, 7)
    convs = [module for module in stage.modules() if isinstance(module, ConvNormAct)]
    around = convs[0](x)
    through = convs[1](x)  # route -2
    for first, second in ((2, 3), (4, 5)):
        through = through + convs[second](convs[first](through))  # shortcut -3
    through = convs[6](through)
    expected = convs[7](torch.cat((through, around), dim=1))  # route -1 and the first
    torch.testing.assert_close(stage(x), expected)


def test_spp_equals_its_restatement() -> None:
    x = torch.randn(1, 3, 15, 14)
    padded = functional.pad(x, [6] * 4, value=-torch.inf)
    pools = []
    for size in (13, 9, 5):
        rim = 6 - size // 2
        part = padded[..., rim : rim + 14 + size, rim : rim + 13 + size]
        pools.append(part.unfold(2, size, 1).unfold(3, size, 1).amax((-1, -2)))
    assert torch.equal(SPP()(x), torch.cat((*pools, x), dim=1))


@pytest.mark.parametrize(
    ("act", "formula"),
    [
        (leaky_relu, lambda x: torch.where(x > 0, x, 0.1 * x)),
        (mish, lambda x: x * torch.tanh(torch.log1p(torch.exp(x)))),
        (hard_sigmoid, lambda x: ((x + 3) / 6).clamp(0, 1)),
        (hard_swish, lambda x: x * ((x + 3) / 6).clamp(0, 1)),
    ],
)
def test_activations_are_their_formulas(
    act: Callable[[], nn.Module], formula: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    torch.testing.assert_close(act()(x.clone()), formula(x))
    # In place, behind a convolution, gradients must survive.
    conv = ConvNormAct(2, 2, norm=None, act=act).double()
    assert torch.autograd.gradcheck(conv, torch.randn(1, 2, 3, 3).double().requires_grad_())
