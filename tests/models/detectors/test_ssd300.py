"""SSD300 over VGG-16 against torchvision's, with the same random weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

from flyweight.core.manifest import Thresholds
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.torchvision_weights import load_torchvision_weights
from flyweight.models.detectors.zoo import build, describe

CLASSES = tuple(f"class {index}" for index in range(20))


@pytest.fixture(scope="module")
def pair() -> tuple[SSD, Detector]:
    torch.manual_seed(0)
    theirs = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21)
    for name, parameter in theirs.named_parameters():
        if parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter)
            if ".head." in f".{name}":
                parameter.data.mul_(0.02)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    nn.init.uniform_(theirs.backbone.scale_weight, 10, 20)
    ours = build("ssd300_vgg16", classes=CLASSES)
    load_torchvision_weights(theirs.state_dict(), ours)
    return theirs.eval(), ours.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    """uint8 `[1, 300, 300, 3]`: smooth blobs."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(1, 3, 12, 12, generator=generator)
    fine = nn.functional.interpolate(coarse, size=(300, 300), mode="bilinear")
    return (fine * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@torch.no_grad()
def run_torchvision(theirs: SSD, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Raw outputs and anchors `[A, 4]`; its own normalisation, without its resizing."""
    [normalised] = [theirs.transform.normalize(images[0].permute(2, 0, 1) / 255)]
    features = list(theirs.backbone(normalised[None]).values())
    anchors = theirs.anchor_generator(ImageList(normalised[None], [(300, 300)]), features)
    return theirs.head(features), anchors[0]


def test_raw_outputs_and_anchors(pair: tuple[SSD, Detector], images: Tensor) -> None:
    theirs, ours = pair
    expected, anchors = run_torchvision(theirs, images)
    with torch.no_grad():
        raw = ours.model(ours.normalise(images))
    for mine, other in (
        (raw.deltas, expected["bbox_regression"]),
        (raw.logits, expected["cls_logits"]),
    ):
        assert mine.shape == other.shape
        assert other.std() > 0.05
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4 * other.abs().max().item())
    torch.testing.assert_close(ours.objective.anchors.boxes_xyxy, anchors, rtol=0, atol=1e-3)


def test_the_same_detections(pair: tuple[SSD, Detector], images: Tensor) -> None:
    theirs, ours = pair
    outputs, anchors = run_torchvision(theirs, images)
    scores = outputs["cls_logits"].softmax(-1)[..., 1:]
    threshold = scores.flatten().topk(400).values[-1].item()
    theirs.score_thresh, theirs.nms_thresh, theirs.detections_per_img = threshold, 0.45, 200
    [expected] = theirs.postprocess_detections(outputs, [anchors], [(300, 300)])
    thresholds = Thresholds(threshold, 0.45, candidates_per_class=400, max_detections=200)
    with torch.no_grad():
        raw = ours.model(ours.normalise(images))
    [(boxes, found, labels)] = ours.postprocess(raw, thresholds)
    assert len(labels) == len(expected["labels"]) > 10
    same = (
        ((boxes[:, None] - expected["boxes"]).abs().amax(-1) < 0.05)
        & ((found[:, None] - expected["scores"]).abs() < 1e-3)
        & (labels[:, None] + 1 == expected["labels"])
    )
    assert same.any(0).all()
    assert same.any(1).all()


def test_published_figures() -> None:
    # torchvision's metadata of SSD300_VGG16_Weights.COCO_V1: 91 classes with background
    entry = describe("ssd300_vgg16", num_classes=90)
    assert entry.params == 35_641_826
    assert entry.anchors == 8732
