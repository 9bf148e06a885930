"""Parameters and MACs at 224×224 against the papers, the TF code's tables and torchvision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from flyweight.models.backbones import build_classifier


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _macs(model: nn.Module, size: int) -> int:
    """Multiply-accumulates of convolutions and linear layers, counted as they run."""
    total = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        # Every output value costs one multiplication per weight that leads to its channel.
        total += output.numel() * module.weight[0].numel()

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 3, size, size))
    return total


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
    ],
)
def test_published(name: str, width: float, millions: float, mega_macs: int) -> None:
    model = build_classifier(name, width=width)
    assert round(_parameters(model) / 1e6, 1) == millions
    assert _macs(model, 224) / 1e6 == pytest.approx(mega_macs, rel=0.01)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"])
def test_torchvision_metadata(name: str) -> None:
    meta = torchvision.models.get_model_weights(name).DEFAULT.meta
    model = build_classifier(name)
    assert _parameters(model) == meta["num_params"]
    assert round(_macs(model, 224) / 1e9, 3) == meta["_ops"]


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
