"""One detector at many input sizes: canvases of batches, and multi-scale training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection import retinanet_resnet50_fpn

from flyweight.core.errors import InputError
from flyweight.core.manifest import Thresholds
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.detectors.detector import SIZES_KEPT, Detector
from flyweight.models.detectors.targets import Targets
from flyweight.models.detectors.torchvision_weights import load_torchvision_weights
from flyweight.models.detectors.zoo import build, family_of

CLASSES = ("a", "b")
# one of each family
NAMES = ("ssdlite320_mobilenet_v2", "retinanet_snet", "faster_rcnn", "yolov3")
BACKBONE = {"faster_rcnn": "mobilenet_v2", "yolov3": "mobilenet_v2"}


def made(name: str, size: int | tuple[int, int]) -> Detector:
    torch.manual_seed(0)
    options = {"backbone": BACKBONE[name]} if name in BACKBONE else {}
    return build(name, classes=CLASSES, size=size, width=0.25, **options).eval()


def pictures(*sizes_hw: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size_hw, 3), dtype=np.uint8) for size_hw in sizes_hw]


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_at_another_size_is_one_built_for_it(name: str) -> None:
    """Same weights, so same losses and detections; anchors given relative to the input scale."""
    size_hw = (160, 224)
    detector, expected = made(name, 128), made(name, size_hw)
    expected.load_state_dict(detector.state_dict())
    images = torch.from_numpy(np.stack(pictures(size_hw, size_hw)))
    targets = Targets.from_lists(
        [torch.tensor([[10.0, 20, 90, 140]]), torch.tensor([[100.0, 30, 200, 60]])],
        [torch.tensor([0]), torch.tensor([1])],
    )
    torch.manual_seed(3)  # Faster R-CNN draws its samples
    losses = detector.loss(images, targets)
    assert not any(module.training for module in detector.model.modules())
    torch.manual_seed(3)
    for key, value in expected.loss(images, targets).items():
        torch.testing.assert_close(losses[key], value)
        assert value > 0
    with torch.no_grad():
        mine, theirs = detector.at_size(size_hw)(images), expected(images)
    for left, right in zip(mine, theirs, strict=True):
        torch.testing.assert_close(left, right)
    assert detector.at_size(size_hw).config == expected.config
    assert detector.at_size((128, 128)) is detector


def test_sizes_are_kept_but_not_for_ever() -> None:
    detector = made("retinanet_snet", 128)
    names = set(detector.state_dict())
    for index in range(SIZES_KEPT + 3):
        detector.interpretation((128, 160 + 32 * index))
    assert len(detector._interpretations) == SIZES_KEPT
    assert set(detector.state_dict()) == names
    with pytest.raises(InputError, match="too small"):
        made("ssdlite320_mobilenet_v2", 128).at_size((0, 0))


@pytest.fixture(scope="module")
def pair() -> tuple[torch.nn.Module, Detector]:
    """RetinaNet at a tenth of its published sides, whose padding is zero after normalisation."""
    torch.manual_seed(0)
    grey = [114 / 255] * 3
    theirs = retinanet_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=2,
        min_size=96,
        max_size=160,
        image_mean=grey,
        image_std=[0.2] * 3,
    )
    for module in theirs.head.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=0.008)
    preprocessing = Preprocessing(
        (96, 160),
        resize="shortest_side",
        mean=tuple(grey),  # type: ignore[arg-type]
        std=(0.2, 0.2, 0.2),
        canvas="batch",
    )
    ours = build(
        "retinanet_resnet50_fpn", classes=CLASSES, size=(96, 160), preprocessing=preprocessing
    )
    load_torchvision_weights(theirs.state_dict(), ours)
    return theirs.eval(), ours.eval()


@torch.no_grad()
def test_a_batch_is_padded_to_its_largest_as_in_torchvision(
    pair: tuple[torch.nn.Module, Detector],
) -> None:
    """A portrait, a landscape and a square that need no resizing: inputs, anchors and detections
    of torchvision's whole model."""
    theirs, ours = pair
    images = pictures((96, 150), (150, 96), (96, 96))
    tensors = [torch.from_numpy(image).permute(2, 0, 1) / 255 for image in images]
    expected_images, _ = theirs.transform(tensors)
    fitted = ours.preprocessing.for_images([image.shape[:2] for image in images])
    batch = torch.from_numpy(np.stack([fitted.apply(image)[0] for image in images]))
    torch.testing.assert_close(
        ours.normalise(batch), expected_images.tensors, rtol=0, atol=1e-5, check_stride=False
    )
    features = list(theirs.backbone(expected_images.tensors).values())
    torch.testing.assert_close(
        ours.at_size((160, 160)).objective.anchors.boxes_xyxy,
        theirs.anchor_generator(expected_images, features)[0],
        rtol=0,
        atol=1e-3,
    )
    logits = theirs.head(features)["cls_logits"].sigmoid()
    score = logits.flatten(1).topk(60).values[:, -1].min().item()
    theirs.score_thresh, theirs.nms_thresh, theirs.detections_per_img = score, 0.5, 100
    ours.thresholds = Thresholds(score, 0.5, candidates_per_class=1000, max_detections=100)
    found = ours.predict_batch(images)
    for detections, wanted in zip(found, theirs(tensors), strict=True):
        # torchvision clips boxes to the picture before NMS, Flyweight to the canvas: those that
        # reach into the padding may differ in what they suppress
        assert same_share(detections.boxes_xyxy, wanted["boxes"]) > 0.85
    for image in pictures((96, 160), (160, 96)):
        [wanted] = theirs([torch.from_numpy(image).permute(2, 0, 1) / 255])
        [detections] = ours.predict_batch([image])
        assert len(detections) == len(wanted["boxes"])
        assert same_share(detections.boxes_xyxy, wanted["boxes"]) == 1


def same_share(boxes_xyxy: np.ndarray, wanted_xyxy: Tensor) -> float:
    """Share of the `wanted [N, 4]` boxes that are among `boxes_xyxy [M, 4]`."""
    apart = np.abs(boxes_xyxy[:, None] - wanted_xyxy.numpy()).max(axis=-1)
    assert len(wanted_xyxy) > 10
    return float((apart < 0.05).any(axis=0).mean())


def test_published_preprocessing_has_the_sides_of_the_papers() -> None:
    for name, sides in (
        ("retinanet_resnet50_fpn", (800, 1333)),
        ("faster_rcnn_resnet50_fpn", (800, 1333)),
        ("faster_rcnn_vgg16", (600, 1000)),
        ("faster_rcnn_mobilenet_v3_large_320_fpn", (320, 640)),
    ):
        with torch.device("meta"):
            preprocessing = build(name, classes=CLASSES).preprocessing
        assert preprocessing.canvas == "batch"
        assert (preprocessing.short_side, preprocessing.long_side) == sides
        assert family_of(name).name in name
