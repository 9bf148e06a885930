"""Parameters and MACs at 224×224 against the papers, the TF code's tables and torchvision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from flyweight.models.backbones import build_backbone, build_classifier


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _macs(model: nn.Module, size: int) -> int:
    """Multiply-accumulates of convolutions and linear layers, counted as their shapes pass."""
    total = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        # Every output value costs one multiplication per weight that leads to its channel.
        total += output.numel() * module.weight[0].numel()

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    model.eval()(torch.zeros(1, 3, size, size, device="meta"))
    return total


def _built(name: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return build_classifier(name, **options)


@pytest.mark.parametrize(
    ("name", "width", "millions", "mega_macs"),
    [
        ("mobilenet_v1", 1.0, 4.2, 569),
        ("mobilenet_v1", 0.75, 2.6, 325),
        ("mobilenet_v1", 0.5, 1.3, 149),
        ("mobilenet_v1", 0.25, 0.5, 41),
        ("mobilenet_v2", 1.4, 6.1, 582),
        ("mobilenet_v2", 1.0, 3.5, 300),
        ("mobilenet_v2", 0.75, 2.6, 209),
        ("mobilenet_v2", 0.5, 2.0, 97),
        ("mobilenet_v2", 0.35, 1.7, 59),
        ("mobilenet_v3_large", 1.0, 5.5, 217),
        ("mobilenet_v3_small", 1.0, 2.5, 57),
        ("shufflenet_v2", 0.5, 1.4, 41),
        ("shufflenet_v2", 1.0, 2.3, 146),
        ("shufflenet_v2", 1.5, 3.5, 299),
        ("shufflenet_v2", 2.0, 7.4, 591),
        ("ghostnet", 1.0, 5.2, 141),
        ("squeezenet1_0", 1.0, 1.2, 820),
        ("squeezenet1_1", 1.0, 1.2, 350),
    ],
)
def test_published(name: str, width: float, millions: float, mega_macs: int) -> None:
    model = _built(name, width=width)
    assert round(_parameters(model) / 1e6, 1) == millions
    # The paper of ShuffleNetV2 counts up to 1.5 % more than its authors' channels cost.
    tolerance = 0.015 if name == "shufflenet_v2" else 0.01
    assert _macs(model, 224) / 1e6 == pytest.approx(mega_macs, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "model", "width"),
    [
        *(
            (name, name, 1.0)
            for name in ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
        ),
        *((name, name, 1.0) for name in ("resnet18", "resnet34", "resnet50", "resnet101")),
        *((name, name, 1.0) for name in ("vgg16", "squeezenet1_0", "squeezenet1_1")),
        ("shufflenet_v2", "shufflenet_v2_x0_5", 0.5),
        ("shufflenet_v2", "shufflenet_v2_x1_0", 1.0),
        ("shufflenet_v2", "shufflenet_v2_x1_5", 1.5),
        ("shufflenet_v2", "shufflenet_v2_x2_0", 2.0),
    ],
)
def test_torchvision_metadata(name: str, model: str, width: float) -> None:
    meta = torchvision.models.get_model_weights(model).DEFAULT.meta
    ours = _built(name, width=width)
    assert _parameters(ours) == meta["num_params"]
    assert round(_macs(ours, 224) / 1e9, 3) == meta["_ops"]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("mobilenet_v1", "mobilenetv1_100"),
        ("ghostnet", "ghostnet_100"),
        ("darknet53", "darknet53"),
        ("cspdarknet53", "cspdarknet53"),
    ],
)
def test_as_large_as_timms(name: str, model: str) -> None:
    ours = _built(name)
    with torch.device("meta"):
        theirs = timm.create_model(model, pretrained=False)
    assert _parameters(ours) == _parameters(theirs)
    assert _macs(ours, 224) == _macs(theirs, 224)


@pytest.mark.parametrize(
    ("groups", "channels", "mega_macs"),
    [
        (1, (24, 144, 288, 576), 143),
        (2, (24, 200, 400, 800), 140),
        (3, (24, 240, 480, 960), 137),
        (4, (24, 272, 544, 1088), 133),
        (8, (24, 384, 768, 1536), 137),
    ],
)
def test_shufflenet_v1_is_the_papers_table_1(
    groups: int, channels: tuple[int, ...], mega_macs: int
) -> None:
    name = f"shufflenet_v1_g{groups}"
    with torch.device("meta"):
        backbone = build_backbone(name, outputs=["C1", "C2", "C3", "C4", "C5"])
    stem, *stages = [level.channels for level in backbone.feature_info]
    assert (stem, tuple(stages)) == (24, channels)
    units = [layer for layer in backbone.layers if layer.startswith("stage")]
    assert [sum(unit.startswith(f"stage{n}") for unit in units) for n in (2, 3, 4)] == [4, 8, 4]
    # The table leaves the linear layer out.
    assert round(_macs(backbone, 224) / 1e6) == mega_macs


@pytest.mark.parametrize(("width", "mega_macs"), [(0.5, 38), (0.25, 13)])
def test_narrow_shufflenet_v1_costs_what_table_2_says(width: float, mega_macs: int) -> None:
    """With 3 groups, where every channel count scales without rounding."""
    with torch.device("meta"):
        backbone = build_backbone("shufflenet_v1_g3", outputs="classifier", width=width)
    assert _macs(backbone, 224) / 1e6 == pytest.approx(mega_macs, rel=0.05)


@pytest.mark.parametrize(
    ("name", "mega_macs", "published"),
    [("snet49", 51.2, 49), ("snet146", 161.1, 146), ("snet535", 535.4, 535)],
)
def test_snets(name: str, mega_macs: float, published: int) -> None:
    """Table 1 of ThunderNet: its channels give more than it states for two of the three."""
    counted = _macs(_built(name), 224) / 1e6
    assert counted == pytest.approx(mega_macs, abs=0.05)
    assert published <= counted < 1.11 * published


def test_document_net_leaves_the_detector_165_mega_macs() -> None:
    with torch.device("meta"):
        backbone = build_backbone("document_net", outputs="pyramid")
    ours = _macs(backbone, 224)
    assert ours / 1e6 == pytest.approx(60.2, abs=0.05)
    c4, c5 = (level.channels for level in backbone.feature_info)
    lateral = (c4 * 196 + c5 * 49) * 128
    output = (9 * 128 + 128**2) * (196 + 49)
    coarser = 9 * 128**2 * (16 + 4)
    cells = 196 + 49 + 16 + 4
    towers = cells * (2 * (128 * 256 + 2 * 256**2) + 256 * (24 + 6))
    assert (ours + lateral + output + coarser + towers) / 1e6 == pytest.approx(165, rel=0.01)


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.0, 1.4])
@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"])
def test_width_multiplier_equals_torchvision(name: str, width: float) -> None:
    builder: Callable[..., nn.Module] = torchvision.models.get_model_builder(name)
    with torch.device("meta"):
        theirs, ours = builder(width_mult=width), build_classifier(name, width=width)
    shapes = [tuple(p.shape) for p in theirs.parameters()]
    assert [tuple(p.shape) for p in ours.parameters()] == shapes


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "mobilenet_v3_small"])
def test_reduced_tail_equals_torchvision(name: str) -> None:
    builder = torchvision.models.get_model_builder(name)
    with torch.device("meta"):
        theirs, ours = builder(reduced_tail=True), build_classifier(name, reduced_tail=True)
    shapes = [tuple(p.shape) for p in theirs.parameters()]
    assert [tuple(p.shape) for p in ours.parameters()] == shapes
