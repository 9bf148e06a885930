"""Every backbone keeps what it publishes: names, channels, strides, gradients, layout."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from flyweight.compression.fold import fold
from flyweight.core.errors import InputError
from flyweight.models.backbones import (
    BACKBONES,
    CLASSIFIERS,
    FeatureInfo,
    build_backbone,
    build_classifier,
)

every_backbone = pytest.mark.parametrize("name", BACKBONES)
every_set = pytest.mark.parametrize("outputs", ["stages", "ssdlite", "classifier"])


def test_every_backbone_has_a_classifier() -> None:
    assert list(BACKBONES) == list(CLASSIFIERS)


@every_backbone
@pytest.mark.parametrize(
    ("outputs", "width"), [("stages", 0.25), ("ssdlite", 0.5), ("classifier", 1.0)]
)
def test_feature_info_is_true(name: str, outputs: str, width: float) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, outputs=outputs, width=width).eval()
    features = backbone(torch.empty(1, 3, 97, 130, device="meta"))
    # Odd sizes are rounded up at each halving.
    assert [tuple(f.shape) for f in features] == [
        (1, info.channels, math.ceil(97 / info.stride), math.ceil(130 / info.stride))
        for info in backbone.feature_info
    ]


@every_backbone
def test_stages_are_strides_4_to_32(name: str) -> None:
    info = build_backbone(name).feature_info
    assert [(level.name, level.stride) for level in info] == [
        ("C2", 4),
        ("C3", 8),
        ("C4", 16),
        ("C5", 32),
    ]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("mobilenet_v1", {}, [("C4", 512), ("C5", 1024)]),
        ("mobilenet_v2", {}, [("C4_expanded", 576), ("final", 1280)]),
        ("mobilenet_v3_large", {}, [("C4_expanded", 672), ("final", 960)]),
        ("mobilenet_v3_large", {"reduced_tail": True}, [("C4_expanded", 672), ("final", 480)]),
        ("mobilenet_v3_small", {}, [("C4_expanded", 288), ("final", 576)]),
        ("mobilenet_v3_small", {"reduced_tail": True}, [("C4_expanded", 288), ("final", 288)]),
        ("shufflenet_v1_g3", {}, [("C4", 480), ("C5", 960)]),
        ("shufflenet_v2", {}, [("C4", 232), ("final", 1024)]),
        ("snet49", {}, [("C4", 120), ("final", 512)]),
        ("snet146", {}, [("C4", 264), ("C5", 528)]),
        ("squeezenet1_0", {}, [("C4", 512), ("C5", 512)]),
        ("ghostnet", {}, [("C4_expanded", 672), ("final", 960)]),
        ("resnet18", {}, [("C4", 256), ("C5", 512)]),
        ("resnet50", {}, [("C4", 1024), ("C5", 2048)]),
        ("vgg16", {}, [("C4", 512), ("C5", 512)]),
        ("darknet53", {}, [("C4", 512), ("C5", 1024)]),
        ("document_net", {}, [("C4", 208), ("C5", 416)]),
    ],
)
def test_ssdlite_levels(
    name: str, options: dict[str, bool], expected: list[tuple[str, int]]
) -> None:
    info = build_backbone(name, outputs="ssdlite", **options).feature_info
    assert [(level.name, level.channels) for level in info] == expected
    assert [level.stride for level in info] == [16, 32]


def test_levels_by_name_come_in_order_of_depth() -> None:
    backbone = build_backbone("mobilenet_v2", outputs=["C5", "C1", "C4_expanded", "C4"])
    assert backbone.feature_info == (
        FeatureInfo("C1", 16, 2),
        FeatureInfo("C4", 96, 16),
        FeatureInfo("C4_expanded", 576, 16),
        FeatureInfo("C5", 320, 32),
    )
    assert [f.shape[1] for f in backbone(torch.randn(1, 3, 64, 64))] == [16, 96, 576, 320]


def test_layers_past_the_last_level_are_not_kept() -> None:
    assert list(build_backbone("mobilenet_v2", outputs=["C2"]).layers) == [
        "stem",
        "block1",
        "block2",
        "block3",
    ]
    assert "final" not in build_backbone("mobilenet_v2", outputs="stages").layers
    assert "final" in build_backbone("mobilenet_v2", outputs="ssdlite").layers


@every_backbone
@every_set
def test_every_weight_gets_a_gradient(name: str, outputs: str) -> None:
    """Weights that no output depends on would stop distributed training."""
    backbone = build_backbone(name, outputs=outputs, width=0.35).train()
    features = backbone(torch.randn(2, 3, 32, 32))
    # Squared: a plain sum after a batch norm has no gradient at all.
    sum((feature**2).mean() for feature in features).backward()
    for key, parameter in backbone.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@every_backbone
def test_channels_last_goes_through(name: str) -> None:
    backbone = build_backbone(name, outputs="ssdlite", width=0.5).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = backbone(x)
        backbone.to(memory_format=torch.channels_last)
        features = backbone(x.to(memory_format=torch.channels_last))
    for feature, reference in zip(features, expected, strict=True):
        assert feature.is_contiguous(memory_format=torch.channels_last)
        # Without statistics, values grow from one residual block to the next.
        scale = reference.std()
        torch.testing.assert_close(feature / scale, reference / scale, atol=1e-4, rtol=1e-4)


@every_backbone
def test_norm_factory_is_used_everywhere(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, norm=lambda channels: nn.GroupNorm(1, channels))
    kinds = {type(module) for module in backbone.modules()}
    assert nn.GroupNorm in kinds
    assert nn.BatchNorm2d not in kinds


@every_backbone
def test_without_norm_every_convolution_has_a_bias(name: str) -> None:
    backbone = build_backbone(name, width=0.25, norm=None)
    for key, module in backbone.named_modules():
        assert not isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)), key
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None, key
    features = backbone(torch.randn(1, 3, 64, 64))
    sum(feature.square().mean() for feature in features).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


@every_backbone
def test_a_folded_backbone_fits_one_without_norm(
    name: str, enliven: Callable[[nn.Module], nn.Module]
) -> None:
    """That is how the checkpoint of a folded detector is read."""
    backbone = enliven(build_backbone(name, width=0.25, norm=nn.BatchNorm2d))
    bare = build_backbone(name, width=0.25, norm=None).eval()
    bare.load_state_dict(fold(backbone).state_dict())
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        expected = backbone.double()(x)
        for ours, theirs in zip(bare.double()(x), expected, strict=True):
            # The folded weights themselves were rounded to float32.
            scale = theirs.std()
            torch.testing.assert_close(ours / scale, theirs / scale, atol=1e-3, rtol=1e-3)


@every_backbone
def test_initialisation_is_kaiming_over_the_fan_out(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, width=0.5)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 20_000:
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert float(module.weight.detach().std()) == pytest.approx(
                math.sqrt(2 / fan_out), rel=0.05
            )
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()


def test_classifier_has_the_asked_classes_and_learns() -> None:
    classifier = build_classifier("mobilenet_v3_small", num_classes=7, width=0.35)
    logits = classifier(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())


def test_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"did you mean .*mobilenet_v2"):
        build_backbone("mobilnet_v2")
    with pytest.raises(InputError, match="unknown backbone"):
        build_classifier("alexnet")


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ("everything", "no output set 'everything'.*stages, ssdlite"),
        (
            ["C2", "C9"],
            "no feature level 'C9'.*C1, C2_first, C2, .*C4_expanded, C5_first, C5, final",
        ),
        ([], "none given"),
        (["C3", "C4_expanded"], "cannot be the coarsest"),
    ],
)
def test_unknown_outputs_are_refused(outputs: str | list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_backbone("mobilenet_v2", outputs=outputs)


def test_version_1_has_no_expansion_level() -> None:
    with pytest.raises(InputError, match="mobilenet_v1 has no feature level 'C4_expanded'"):
        build_backbone("mobilenet_v1", outputs=["C4_expanded", "C5"])


def test_reduced_vgg_16_levels() -> None:
    """What SSD reads at 300×300: 38×38 of conv4_3 and 19×19 of conv7."""
    with torch.device("meta"):
        backbone = build_backbone("vgg16", outputs="ssd", atrous=True)
    assert backbone.feature_info == (FeatureInfo("C3", 512, 8), FeatureInfo("final", 1024, 16))
    features = backbone(torch.empty(1, 3, 300, 300, device="meta"))
    assert [tuple(f.shape[1:]) for f in features] == [(512, 38, 38), (1024, 19, 19)]
    with pytest.raises(InputError, match="no feature level 'C5'"):
        build_backbone("vgg16", outputs=["C5"], atrous=True)


def test_squeezenet_comes_to_stride_32_without_parameters() -> None:
    four, five = (build_backbone("squeezenet1_1", outputs=[name]) for name in ("C4", "C5"))
    assert five.state_dict().keys() == four.state_dict().keys()


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_widths_are_refused(width: float) -> None:
    with pytest.raises(InputError, match="times as wide"):
        build_backbone("resnet18", width=width)
    with pytest.raises(InputError, match="times as wide"):
        build_classifier("resnet18", width=width)


def test_document_net_follows_its_rules() -> None:
    backbone = build_backbone("document_net", outputs="pyramid")
    convs = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) == 17, "at most 18 layers with weights"
    assert (convs[0].kernel_size, convs[0].dilation) == ((3, 3), (2, 2))
    assert all(conv.groups == conv.in_channels or conv.kernel_size == (1, 1) for conv in convs[1:])
    kinds = [type(module) for module in backbone.modules()]
    assert kinds.count(nn.GroupNorm) == kinds.count(nn.ReLU) == 9
    assert [(level.name, level.stride) for level in backbone.feature_info] == [
        ("C4", 16),
        ("C5", 32),
    ]
    assert all(level.channels % 8 == 0 for level in backbone.feature_info)


def test_document_net_sees_329_pixels() -> None:
    """The receptive field of one cell of C5, from the gradient of its input."""
    backbone = build_backbone("document_net", outputs="classifier", norm=None)
    for parameter in backbone.parameters():
        parameter.data.fill_(0.01)
    x = torch.ones(1, 3, 448, 448, requires_grad=True)
    backbone(x)[-1][0, 0, 7, 7].backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == 329


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        pytest.param("mobilenet_v1", {"Conv", "Clip"}, marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", {"Conv", "Clip", "Add"}, marks=pytest.mark.slow),
        (
            "mobilenet_v3_small",
            {"Conv", "Relu", "HardSwish", "HardSigmoid", "ReduceMean", "Mul", "Add"},
        ),
        pytest.param(
            "shufflenet_v2",
            {"Conv", "Relu", "MaxPool", "Split", "Concat", "Reshape", "Transpose"},
            marks=pytest.mark.slow,
        ),
        pytest.param("resnet18", {"Conv", "Relu", "MaxPool", "Add"}, marks=pytest.mark.slow),
        pytest.param(
            "squeezenet1_1", {"Conv", "Relu", "MaxPool", "Concat"}, marks=pytest.mark.slow
        ),
        pytest.param(
            "cspdarknet53",
            {"Conv", "Mish", "Softplus", "Tanh", "Mul", "Add", "Concat"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_exports_to_onnx_without_detours(
    name: str, allowed: set[str], enliven: Callable[[nn.Module], nn.Module]
) -> None:
    """Nothing but the network's own operations, even from channels_last, and the same values."""
    backbone = enliven(build_backbone(name, outputs="ssdlite", width=0.35))
    backbone.to(memory_format=torch.channels_last)
    x = torch.randn(1, 3, 64, 64).to(memory_format=torch.channels_last)
    program = torch.onnx.export(backbone, (x,), dynamo=True, verbose=False)
    assert program is not None
    assert {node.op_type for node in program.model.graph} <= allowed
    run = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    outputs = run.run(None, {run.get_inputs()[0].name: x.numpy()})
    with torch.inference_mode():
        for ours, theirs in zip(backbone(x), outputs, strict=True):
            assert ours.std() > 0.1
            np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-4, rtol=1e-4)
