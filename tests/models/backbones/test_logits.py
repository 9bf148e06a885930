"""Logits and levels of converted weights, against torchvision and timm."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.models.detection.ssdlite import _mobilenet_extractor

from flyweight.models.backbones import Backbone, build_backbone, build_classifier
from flyweight.models.conversion import convert_state_dict

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
