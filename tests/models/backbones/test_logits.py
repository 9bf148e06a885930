"""Logits and levels of converted weights, against torchvision and timm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.models.detection.ssd import SSDFeatureExtractorVGG
from torchvision.models.detection.ssdlite import _mobilenet_extractor
from torchvision.models.vgg import VGG, make_layers

from flyweight.models.backbones import Backbone, build_backbone, build_classifier
from flyweight.models.backbones.layouts import in_our_layout
from flyweight.models.conversion import convert_state_dict
from flyweight.models.layers.activations import ACTIVATIONS
from flyweight.models.pretrained import PRETRAINED_ACT

Enliven = Callable[[nn.Module], nn.Module]


def _assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.std() > 0.1, "the comparison would be one of zeros"
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("width", [1.0, 0.5])
@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"])
def test_torchvision(name: str, width: float, enliven: Enliven) -> None:
    theirs = enliven(torchvision.models.get_model_builder(name)(width_mult=width))
    ours = build_classifier(name, width=width).eval()
    ours.load_state_dict(convert_state_dict(theirs.state_dict(), ours, source_name="torchvision"))
    x = torch.randn(2, 3, 96, 64)
    with torch.inference_mode():
        _assert_same(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("name", "model", "width"),
    [
        ("resnet18", "resnet18", 1.0),
        ("resnet50", "resnet50", 1.0),
        ("resnet101", "resnet101", 1.0),
        ("squeezenet1_0", "squeezenet1_0", 1.0),
        ("squeezenet1_1", "squeezenet1_1", 1.0),
        ("shufflenet_v2", "shufflenet_v2_x0_5", 0.5),
        ("shufflenet_v2", "shufflenet_v2_x1_0", 1.0),
        ("shufflenet_v2", "shufflenet_v2_x1_5", 1.5),
        ("shufflenet_v2", "shufflenet_v2_x2_0", 2.0),
    ],
)
def test_torchvision_families(name: str, model: str, width: float, enliven: Enliven) -> None:
    theirs = enliven(torchvision.models.get_model_builder(model)())
    ours = build_classifier(name, width=width).eval()
    _assert_same_logits(ours, theirs, theirs.state_dict())


@pytest.mark.parametrize(
    ("name", "model", "options"),
    [
        ("ghostnet", "ghostnet_100", {}),
        ("darknet53", "darknet53", {"act": ACTIVATIONS[PRETRAINED_ACT["darknet53"]]}),
        ("cspdarknet53", "cspdarknet53", {"act": ACTIVATIONS[PRETRAINED_ACT["cspdarknet53"]]}),
    ],
)
def test_timm_families(name: str, model: str, options: dict[str, Any], enliven: Enliven) -> None:
    theirs = enliven(timm.create_model(model, pretrained=False))
    ours = build_classifier(name, **options).eval()
    state = in_our_layout(theirs.state_dict(), name, ours.backbone)
    _assert_same_logits(ours, theirs, state)


def test_torchvision_vgg_16() -> None:
    """At a quarter of the width, for torchvision's own has half a gigabyte of weights."""
    layers: list[int | str] = []
    for channels, depth in ((16, 2), (32, 2), (64, 3), (128, 3), (128, 3)):
        layers += [channels] * depth + ["M"]
    with torch.device("meta"):
        theirs = VGG(make_layers(layers)).eval()
    theirs.features = make_layers(layers)
    theirs.classifier[0] = nn.Linear(128 * 49, 1024)
    theirs.classifier[3] = nn.Linear(1024, 1024)
    theirs.classifier[6] = nn.Linear(1024, 1000)
    ours = build_classifier("vgg16", width=0.25).eval()
    _assert_same_logits(ours, theirs, theirs.state_dict())


def test_reduced_vgg_16_is_torchvisions_in_ssd() -> None:
    layers: list[int | str] = []
    for channels, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers += [channels] * depth + ["M"]
    theirs = SSDFeatureExtractorVGG(make_layers(layers), highres=False).eval()
    trunk = nn.Sequential(theirs.features, *theirs.extra[0])
    ours = build_backbone("vgg16", outputs="ssd", atrous=True).eval()
    ours.load_state_dict(convert_state_dict(trunk.state_dict(), ours, source_name="torchvision"))
    # As at 300 pixels, the size before pool3 is odd and only that one.
    x = torch.randn(1, 3, 44, 60)
    with torch.inference_mode():
        conv4_3 = theirs.features(x)
        conv7 = theirs.extra[0](conv4_3)
        for level, expected in zip(ours(x), (conv4_3, conv7), strict=True):
            scale = expected.std()
            torch.testing.assert_close(level / scale, expected / scale, atol=1e-4, rtol=0)


def _assert_same_logits(ours: nn.Module, theirs: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """In float64: over a hundred random layers, rounding alone passes 1e-4 in float32."""
    ours.load_state_dict(convert_state_dict(state, ours, source_name="theirs"))
    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.inference_mode():
        expected = theirs.double()(x)
        assert expected.std() > 1e-3, "the comparison would be one of zeros"
        torch.testing.assert_close(ours.double()(x), expected, atol=1e-8, rtol=1e-6)


def test_timm_mobilenet_v1(enliven: Enliven) -> None:
    theirs = enliven(timm.create_model("mobilenetv1_100", pretrained=False))
    ours = build_classifier("mobilenet_v1").eval()
    ours.load_state_dict(convert_state_dict(theirs.state_dict(), ours, source_name="timm"))
    x = torch.randn(2, 3, 96, 64)
    with torch.inference_mode():
        _assert_same(ours(x), theirs(x))
        for level, theirs_level in zip(
            _levels(ours.backbone, "mobilenet_v1", "stages", x),
            timm.create_model(
                "mobilenetv1_100", pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)
            ).eval()(x),
            strict=True,
        ):
            assert level.shape == theirs_level.shape


def _levels(
    source: nn.Module, name: str, outputs: str, x: torch.Tensor, **options: bool
) -> list[torch.Tensor]:
    """The levels of a backbone cut from the classifier's backbone `source`."""
    backbone = build_backbone(name, outputs=outputs, **options).eval()
    state = source.state_dict()
    backbone.load_state_dict({key: state[key] for key in backbone.state_dict()})
    with torch.inference_mode():
        levels: list[torch.Tensor] = backbone(x)
    return levels


@pytest.mark.parametrize("reduced_tail", [False, True])
@pytest.mark.parametrize("name", ["mobilenet_v3_large", "mobilenet_v3_small"])
def test_ssdlite_levels_equal_torchvision_extractor(
    name: str, reduced_tail: bool, enliven: Enliven
) -> None:
    builder = torchvision.models.get_model_builder(name)
    theirs = enliven(builder(reduced_tail=reduced_tail))
    ours = build_classifier(name, reduced_tail=reduced_tail)
    ours.load_state_dict(convert_state_dict(theirs.state_dict(), ours, source_name="torchvision"))
    extractor = _mobilenet_extractor(theirs, 6, nn.BatchNorm2d).eval()
    x = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        theirs_levels = list(extractor(x).values())[:2]
    levels = _levels(ours.backbone, name, "ssdlite", x, reduced_tail=reduced_tail)
    for level, theirs_level in zip(levels, theirs_levels, strict=True):
        _assert_same(level, theirs_level)


def test_mobilenet_v2_levels_equal_torchvision(enliven: Enliven) -> None:
    """Block 14's expansion (576 channels) and the last convolution, as TF's SSDlite reads them."""
    theirs = enliven(torchvision.models.mobilenet_v2())
    ours = build_classifier("mobilenet_v2")
    ours.load_state_dict(convert_state_dict(theirs.state_dict(), ours, source_name="torchvision"))
    x = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        expanded = theirs.features[14].conv[0](theirs.features[:14](x))
        final = theirs.features(x)
        stages = [theirs.features[: index + 1](x) for index in (3, 6, 13, 17)]
    assert (expanded.shape[1], final.shape[1]) == (576, 1280)
    for outputs, expected in (("ssdlite", [expanded, final]), ("stages", stages)):
        levels = _levels(ours.backbone, "mobilenet_v2", outputs, x)
        for level, theirs_level in zip(levels, expected, strict=True):
            _assert_same(level, theirs_level)


def test_batch_norm_of_version_3_is_torchvisions() -> None:
    theirs = next(
        m
        for m in torchvision.models.mobilenet_v3_small().modules()
        if isinstance(m, nn.BatchNorm2d)
    )
    backbone: Backbone = build_backbone("mobilenet_v3_small")
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.eps, module.momentum) == (theirs.eps, theirs.momentum)
