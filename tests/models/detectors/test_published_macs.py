"""Parameters and MACs of whole detectors against torchvision's metadata, counted without memory."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model_weights

from flyweight.models.detectors import Detector
from flyweight.models.detectors.zoo import build


def build_without_memory(name: str, *, classes: int, side: int) -> Detector:
    with torch.device("meta"):
        return build(name, classes=[str(index) for index in range(classes)], size=side).eval()


def count_macs(detector: Detector) -> float:
    """Of the model for one image, in units of 10⁹."""
    images = torch.empty((1, 3, *detector.preprocessing.size_hw), device="meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        detector.model(images)
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize(
    ("name", "classes", "side"),
    [
        ("ssdlite320_mobilenet_v3_large", 90, 320),
        ("ssd300_vgg16", 90, 300),
        # torchvision counts its large detectors at 800×800, and frozen norms as no parameters.
        ("retinanet_resnet50_fpn", 91, 800),
    ],
)
def test_figures_are_torchvisions(name: str, classes: int, side: int) -> None:
    meta = next(iter(get_model_weights(name))).meta
    detector = build_without_memory(name, classes=classes, side=side)
    assert count_macs(detector) == pytest.approx(meta["_ops"], rel=1e-3)
    params = sum(each.numel() for each in detector.parameters())
    assert params == pytest.approx(meta["num_params"], rel=0.002)


@pytest.mark.parametrize(
    ("name", "theirs", "side", "proposals"),
    [
        ("faster_rcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn", 800, 1000),
        # Its figure is that of a picture without any proposal: the second stage did not run.
        (
            "faster_rcnn_mobilenet_v3_large_320_fpn",
            "fasterrcnn_mobilenet_v3_large_320_fpn",
            320,
            0,
        ),
    ],
)
def test_both_stages_of_faster_rcnn(name: str, theirs: str, side: int, proposals: int) -> None:
    """The second stage runs once for each proposal."""
    detector = build_without_memory(name, classes=90, side=side)
    head = detector.model.roi_head
    layers = (head.fc6, head.fc7, head.classification, head.regression)
    second = sum(layer.in_features * layer.out_features for layer in layers)
    macs = count_macs(detector) + proposals * second / 1e9
    meta = next(iter(get_model_weights(theirs))).meta
    assert macs == pytest.approx(meta["_ops"], rel=0.005)
