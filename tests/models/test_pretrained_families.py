"""Published weights of every family: files as torchvision and timm write them, into our layers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.vgg import VGG, make_layers

from flyweight.core.errors import InputError
from flyweight.models import pretrained
from flyweight.models.backbones import BACKBONES, build_backbone
from flyweight.models.layers.activations import ACTIVATIONS
from flyweight.models.pretrained import (
    PRETRAINED_ACT,
    PRETRAINED_NORM_EPS,
    load_pretrained_backbone,
    resolve_weights,
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Networks this small lose time to a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _publish(theirs: nn.Module, path: Path) -> dict[str, Tensor]:
    """Writes the weights of a network, with the statistics of one batch of noise."""
    generator = torch.Generator().manual_seed(2)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.weight.data.uniform_(0.8, 1.6, generator=generator)
            module.bias.data.normal_(0.2, 0.3, generator=generator)
    with torch.no_grad():
        theirs.train()(torch.randn(4, 3, 64, 64, generator=generator))
    theirs.eval()
    state = theirs.state_dict()
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return state


def _theirs(name: str, width: float) -> nn.Module:
    if name in pretrained._TIMM_MODELS:
        model: nn.Module = timm.create_model(pretrained._TIMM_MODELS[name], pretrained=False)
    else:
        builder = torchvision.models.get_model_builder(
            pretrained._TORCHVISION_WEIGHTS[name, width][0]
        )
        model = builder()
    return model.eval()


def _their_features(theirs: nn.Module, x: Tensor) -> Tensor:
    """What comes before the global pooling."""
    if hasattr(theirs, "forward_features"):
        features: Tensor = theirs.forward_features(x)
        return features
    if hasattr(theirs, "features"):
        pooled: Tensor = theirs.features(x)
        return pooled
    for name, child in theirs.named_children():
        if name not in ("avgpool", "fc"):
            x = child(x)
    return x


@pytest.mark.parametrize(
    ("name", "width", "options"),
    [
        ("resnet18", 1.0, {}),
        ("resnet50", 1.0, {}),
        ("shufflenet_v2", 0.5, {}),
        ("shufflenet_v2", 1.5, {}),
        ("squeezenet1_0", 1.0, {"padded": False}),
        ("squeezenet1_1", 1.0, {"padded": False}),
        ("ghostnet", 1.0, {}),
        ("darknet53", 1.0, {"act": ACTIVATIONS[PRETRAINED_ACT["darknet53"]]}),
        ("cspdarknet53", 1.0, {"act": ACTIVATIONS[PRETRAINED_ACT["cspdarknet53"]]}),
    ],
)
def test_features_are_theirs(
    name: str, width: float, options: dict[str, object], tmp_path: Path
) -> None:
    theirs = _theirs(name, width)
    # The order in a safetensors file is that of the names.
    path = tmp_path / ("theirs.safetensors" if name != "resnet50" else "theirs.pth")
    _publish(theirs, path)
    ours = build_backbone(name, width=width, outputs="classifier", **options).eval()
    load_pretrained_backbone(ours, name, path)
    # In float64: over a hundred random layers, rounding alone passes 1e-4 in float32.
    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.inference_mode():
        expected = _their_features(theirs.double(), x)
        features = ours.double()(x)[-1]
    assert expected.std() > 0.01, "the comparison would be one of zeros"
    torch.testing.assert_close(features, expected, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("name", ["cspdarknet53", "ghostnet", "squeezenet1_1"])
def test_a_shorter_backbone_takes_what_it_has(name: str, tmp_path: Path) -> None:
    _publish(_theirs(name, 1.0), tmp_path / "theirs.pth")
    whole, cut = build_backbone(name, outputs="classifier"), build_backbone(name, outputs=["C3"])
    for backbone in (whole, cut):
        load_pretrained_backbone(backbone, name, tmp_path / "theirs.pth")
    assert len(cut.state_dict()) < len(whole.state_dict())
    for key, tensor in cut.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[key]), key


_VGG_WIDTH = 0.25  # the file of the full network is half a gigabyte


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's VGG-16 with a quarter of the channels."""
    layers: list[int | str] = []
    for channels, depth in ((16, 2), (32, 2), (64, 3), (128, 3), (128, 3)):
        layers += [channels] * depth + ["M"]
    with torch.device("meta"):
        theirs = VGG(make_layers(layers))
    theirs.features = make_layers(layers)
    theirs.classifier[0] = nn.Linear(128 * 49, 1024)
    theirs.classifier[3] = nn.Linear(1024, 1024)
    theirs.classifier[6] = nn.Linear(1024, 1000)
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    _publish(theirs, path)
    return path


def test_vgg_16(vgg_file: Path) -> None:
    theirs = torch.load(vgg_file, weights_only=True)
    ours = build_backbone("vgg16", width=_VGG_WIDTH)
    load_pretrained_backbone(ours, "vgg16", vgg_file)
    convs = [module.weight for module in ours.modules() if isinstance(module, nn.Conv2d)]
    expected = [tensor for tensor in theirs.values() if tensor.ndim == 4]
    assert len(convs) == len(expected) == 13
    assert all(torch.equal(a, b) for a, b in zip(convs, expected, strict=True))


def test_reduced_vgg_16_takes_every_fourth_channel_and_third_pixel(vgg_file: Path) -> None:
    theirs = torch.load(vgg_file, weights_only=True)
    ours = build_backbone("vgg16", outputs="ssd", width=_VGG_WIDTH, atrous=True)
    load_pretrained_backbone(ours, "vgg16", vgg_file)
    conv6, conv7 = ours.layers.final.conv6.conv, ours.layers.final.conv7.conv
    fc6 = theirs["classifier.0.weight"].view(1024, 128, 7, 7)
    for row in range(3):
        for column in range(3):
            assert torch.equal(conv6.weight[:, :, row, column], fc6[::4, :, 3 * row, 3 * column])
    assert torch.equal(conv6.bias, theirs["classifier.0.bias"][::4])
    assert torch.equal(conv7.weight[:, :, 0, 0], theirs["classifier.3.weight"][::4, ::4])
    assert torch.equal(ours.layers.conv5_3.conv.weight, theirs["features.28.weight"])


@pytest.mark.parametrize("form", ["without", "with NaN"])
def test_reduced_vgg_16_from_features_alone(form: str, vgg_file: Path, tmp_path: Path) -> None:
    """As torchvision's SSD: conv6 and conv7 start at random."""
    state = torch.load(vgg_file, weights_only=True)
    if form == "without":
        state = {name: tensor for name, tensor in state.items() if name.startswith("features")}
    else:
        state["classifier.0.weight"].fill_(torch.nan)
    torch.save(state, tmp_path / "features.pth")
    ours = build_backbone("vgg16", outputs="ssd", width=_VGG_WIDTH, atrous=True)
    load_pretrained_backbone(ours, "vgg16", tmp_path / "features.pth")
    assert torch.equal(ours.layers.conv5_3.conv.weight, state["features.28.weight"])
    assert ours.layers.final.conv6.conv.weight.std() > 0
    assert all(tensor.isfinite().all() for tensor in ours.state_dict().values())


def test_a_backbone_with_other_norms_is_refused(vgg_file: Path) -> None:
    backbone = build_backbone("vgg16", width=_VGG_WIDTH, norm=nn.BatchNorm2d)
    with pytest.raises(InputError, match=r"nothing for layers\.conv1_1\.norm.*default norm"):
        load_pretrained_backbone(backbone, "vgg16", vgg_file)


def test_epsilons_are_those_of_the_published_networks() -> None:
    published = {name for name, _ in pretrained._TORCHVISION_WEIGHTS} | set(pretrained._TIMM_MODELS)
    assert set(PRETRAINED_NORM_EPS) == published
    widths = dict(pretrained._TORCHVISION_WEIGHTS)
    for name in published:
        with torch.device("meta"):
            width = next((width for each, width in widths if each == name), 1.0)
            epsilons = {
                module.eps
                for module in _theirs(name, width).modules()
                if isinstance(module, nn.BatchNorm2d)
            }
        expected = PRETRAINED_NORM_EPS[name]
        assert epsilons == (set() if expected is None else {expected}), name


def test_what_is_not_published_says_so() -> None:
    for name in sorted(set(BACKBONES) - set(PRETRAINED_NORM_EPS)):
        with pytest.raises(InputError, match=f"no ImageNet weights are published for {name} at"):
            resolve_weights(name, "imagenet")
    with pytest.raises(InputError, match=r"use width 0\.5 or 1 or 1\.5 or 2, "):
        resolve_weights("shufflenet_v2", "imagenet", width=0.75)
    with pytest.raises(InputError, match="use width 1, "):
        resolve_weights("ghostnet", "imagenet", width=0.5)
