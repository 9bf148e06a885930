"""A classifier's file: what it says of itself, and detectors that start from its backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from flyweight.core.errors import InputError
from flyweight.models.detectors import zoo
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.parts import IMAGENET_MEAN, IMAGENET_STD
from flyweight.training.classification.network import (
    ImageClassifier,
    build_image_classifier,
    check_input,
    load_classifier,
    save_classifier,
)

CLASSES = ("cup", "pen", "key")


def random_classifier(backbone: str, *, width: float = 0.25, **options: Any) -> ImageClassifier:
    """Weights, statistics of the norms and scaling of the input like nobody's default."""
    torch.manual_seed(0)
    network = build_image_classifier(backbone, classes=CLASSES, width=width, size=64, **options)
    preprocessing = replace(network.preprocessing, mean=(0.4, 0.3, 0.2), std=(0.2, 0.25, 0.3))
    config = replace(network.config, backbone_norm_eps=0.007)
    network = ImageClassifier(config, class_names=CLASSES, preprocessing=preprocessing)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1)
    return network


def test_a_file_is_read_back_whole(tmp_path: Path) -> None:
    network = random_classifier("mobilenet_v1")
    network.lineage = {"code_licence": "Apache-2.0", "data": {"name": "cups"}}
    save_classifier(network, tmp_path / "c.safetensors")
    found = load_classifier(tmp_path / "c.safetensors")
    assert found.manifest() == network.manifest()
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    assert torch.equal(found(images), network.eval()(images))


def test_the_input_is_scaled_within_the_network() -> None:
    network = random_classifier("mobilenet_v1").eval()
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    normalise = torchvision.transforms.Normalize((0.4, 0.3, 0.2), (0.2, 0.25, 0.3))
    expected = network.classifier(normalise(images.permute(0, 3, 1, 2) / 255))
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)


def assert_same_backbone(detector: Detector, network: ImageClassifier) -> None:
    theirs = network.classifier.backbone.state_dict()
    model: Any = detector.model
    ours = model.backbone.state_dict()
    assert ours
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize(
    ("detector_name", "backbone", "options"),
    [
        ("ssdlite320_mobilenet_v1", "mobilenet_v1", {}),
        ("ssdlite320_mobilenet_v3_small", "mobilenet_v3_small", {}),
        ("ssdlite", "squeezenet1_1", {"backbone": "squeezenet1_1"}),
        ("retinanet", "ghostnet", {"backbone": "ghostnet"}),
        ("yolov3_darknet53", "darknet53", {"width": 0.125}),
        # in groups, as its detector has it
        ("retinanet_snet", "document_net", {}),
        # with the convolutions that were fc6 and fc7
        ("ssd300_vgg16", "vgg16", {"backbone_norm": "batch", "size": 300, "width": 0.125}),
    ],
)
def test_a_detector_starts_from_the_file(
    detector_name: str, backbone: str, options: dict[str, Any], tmp_path: Path
) -> None:
    """With the same weights, the epsilon of their norms and the scaling of their input."""
    network = random_classifier(backbone, width=options.get("width", 0.25))
    path = tmp_path / "c.safetensors"
    save_classifier(network, path)
    given: dict[str, Any] = {"size": 64, "width": 0.25} | options
    detector = zoo.build(detector_name, classes=("a", "b"), pretrained=path, **given)
    assert_same_backbone(detector, network)
    assert detector.preprocessing.mean == (0.4, 0.3, 0.2)
    assert detector.preprocessing.std == (0.2, 0.25, 0.3)
    model: Any = detector.model
    eps = {m.eps for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)}
    assert eps <= {0.007}
    lineage = detector.lineage["pretrained"]
    assert (lineage["source"], lineage["file"]) == ("file", "c.safetensors")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 0.5}, r"width 0\.25, not 0\.5 \(c\.safetensors\); .* width 0\.25"),
        ({"width": 0.25, "backbone": "mobilenet_v2"}, "backbone mobilenet_v1, not mobilenet_v2"),
        ({"width": 0.25, "backbone_norm": "group"}, "backbone_norm batch, not group"),
    ],
    ids=["width", "backbone", "norm"],
)
def test_what_does_not_fit_is_named(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_classifier(random_classifier("mobilenet_v1"), path)
    with pytest.raises(InputError, match=words):
        zoo.build("ssdlite320_mobilenet_v1", classes=("a",), size=64, pretrained=path, **options)


def test_a_classifier_goes_on_from_a_classifier_or_a_detector(tmp_path: Path) -> None:
    first = random_classifier("mobilenet_v1")
    first.lineage = {"data": {"name": "cups"}}
    save_classifier(first, tmp_path / "first.safetensors")
    second = build_image_classifier(
        "mobilenet_v1", classes=("x", "y"), width=0.25, pretrained=tmp_path / "first.safetensors"
    )
    for name, tensor in second.classifier.backbone.state_dict().items():
        assert torch.equal(tensor, first.classifier.backbone.state_dict()[name]), name
    assert second.preprocessing == replace(first.preprocessing, size_hw=(128, 128))
    assert second.config.backbone_norm_eps == 0.007
    assert second.lineage["pretrained"]["parent"] == {"data": {"name": "cups"}}

    from flyweight.models.detectors import checkpoint

    detector = zoo.build("ssdlite320_mobilenet_v1", classes=("a",), size=64, width=0.25)
    checkpoint.save(detector, tmp_path / "d.safetensors")
    third = build_image_classifier(
        "mobilenet_v1", classes=("x", "y"), width=0.25, pretrained=tmp_path / "d.safetensors"
    )
    assert_same_backbone(detector, third)
    # SSDlite's own, which is not the classifier's default
    assert third.config.backbone_norm_eps == 0.001


def test_weights_of_others_bring_their_scaling(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    network = build_image_classifier(
        "resnet18", classes=CLASSES, size=64, pretrained=tmp_path / "theirs.pth"
    )
    assert network.preprocessing.mean == IMAGENET_MEAN
    assert network.preprocessing.std == IMAGENET_STD
    theirs.fc = nn.Identity()
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    normalise = torchvision.transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)
    expected = theirs.eval()(normalise(images.permute(0, 3, 1, 2) / 255))
    found: list[torch.Tensor] = []
    network.classifier.head.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    network.eval()(images)
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4)


def test_a_detectors_file_is_no_classifier(tmp_path: Path) -> None:
    from flyweight.models.detectors import checkpoint

    detector = zoo.build("ssdlite320_mobilenet_v1", classes=("a",), size=64, width=0.25)
    checkpoint.save(detector, tmp_path / "d.safetensors")
    with pytest.raises(InputError, match="not a classifier's file"):
        load_classifier(tmp_path / "d.safetensors")


def test_an_input_without_anything_left_of_it() -> None:
    check_input("mobilenet_v1", width=0.25, size=32)
    with pytest.raises(InputError, match="unknown backbone 'mobilenet'"):
        check_input("mobilenet", width=0.25, size=64)
    with pytest.raises(InputError, match="16x16 is too small"):
        check_input("mobilenet_v1", width=0.25, size=16)
