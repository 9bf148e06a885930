"""Our SSDlite320-MobileNetV3-Large against torchvision's, with the same random weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from flyweight.core.manifest import Thresholds
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.ssd import SSDOutputs
from flyweight.models.detectors.targets import Targets
from flyweight.models.detectors.torchvision_weights import load_torchvision_weights
from flyweight.models.detectors.zoo import build


def randomise(module: nn.Module, *, seed: int) -> None:
    """Statistics and affine parameters of every BatchNorm, so that none is the identity."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            shape = layer.weight.shape
            with torch.no_grad():
                layer.weight.copy_(0.75 + 0.5 * torch.rand(shape, generator=generator))
                layer.bias.copy_(0.2 * torch.randn(shape, generator=generator))
                layer.running_mean.copy_(0.1 * torch.randn(shape, generator=generator))
                layer.running_var.copy_(0.01 + 0.05 * torch.rand(shape, generator=generator))


def make_pair(classes: int = 90) -> tuple[SSD, Detector]:
    """torchvision's SSDlite and ours with the same weights, in evaluation mode."""
    torch.manual_seed(0)
    theirs = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=classes + 1
    )
    randomise(theirs, seed=1)
    ours = build(
        "ssdlite320_mobilenet_v3_large", classes=[f"class {index}" for index in range(classes)]
    )
    load_torchvision_weights(theirs.state_dict(), ours)
    return theirs.eval(), ours.eval()


def raw_outputs(theirs: SSD, images: Tensor) -> dict[str, Tensor]:
    """`bbox_regression [B, A, 4]` and `cls_logits [B, A, C + 1]` of normalised images."""
    outputs: dict[str, Tensor] = theirs.head(list(theirs.backbone(images).values()))
    return outputs


def anchors_xyxy(theirs: SSD, images: Tensor) -> list[Tensor]:
    """Anchors `[A, 4]` of each image, pixels."""
    sizes = [(images.shape[-2], images.shape[-1])] * len(images)
    features = list(theirs.backbone(images).values())
    anchors: list[Tensor] = theirs.anchor_generator(ImageList(images, sizes), features)
    return anchors


def compute_loss(
    theirs: SSD,
    outputs: dict[str, Tensor],
    targets: Sequence[dict[str, Tensor]],
    anchors: Sequence[Tensor],
) -> dict[str, Tensor]:
    """torchvision's matching, as its `forward` does it, and its loss."""
    matches = [
        theirs.proposal_matcher(box_iou(target["boxes"], each))
        if len(target["boxes"])
        else torch.full((len(each),), -1, dtype=torch.int64)
        for target, each in zip(targets, anchors, strict=True)
    ]
    losses: dict[str, Tensor] = theirs.compute_loss(list(targets), outputs, list(anchors), matches)
    return losses


@pytest.fixture(scope="module")
def pair() -> tuple[SSD, Detector]:
    return make_pair()


@pytest.fixture(scope="module")
def images() -> Tensor:
    """uint8 `[2, 320, 320, 3]`: smooth blobs and noise, so that activations vary."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (2, 20, 20, 3), dtype=np.uint8)
    fine = coarse.repeat(16, axis=1).repeat(16, axis=2).astype(np.int16)
    noisy = np.clip(fine + rng.integers(-20, 20, fine.shape), 0, 255).astype(np.uint8)
    return torch.from_numpy(noisy)


def random_targets(
    counts: list[int], *, classes: int, seed: int, side: int = 320
) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for count in counts:
        corner = torch.rand(count, 2, generator=generator) * 0.75 * side
        size = (0.03 + 0.6 * torch.rand(count, 2, generator=generator)) * side
        boxes = torch.cat((corner, (corner + size).clamp(max=side)), dim=1)
        labels = torch.randint(1, classes + 1, (count,), generator=generator)
        targets.append({"boxes": boxes, "labels": labels})
    return targets


def as_ours(targets: list[dict[str, Tensor]]) -> Targets:
    return Targets.from_lists(
        [each["boxes"] for each in targets], [each["labels"] - 1 for each in targets]
    )


def test_published_figures(pair: tuple[SSD, Detector]) -> None:
    _, ours = pair
    assert sum(parameter.numel() for parameter in ours.parameters()) == 3_440_060
    assert len(ours.objective.anchors) == 3_234


@torch.no_grad()
def test_raw_outputs_are_torchvisions(pair: tuple[SSD, Detector], images: Tensor) -> None:
    theirs, ours = pair
    nchw = images.permute(0, 3, 1, 2).float() / 255
    normalised, _ = theirs.transform(list(nchw))
    expected = raw_outputs(theirs, normalised.tensors)
    raw = ours.model(ours.normalise(images))
    assert expected["cls_logits"].std() > 0.1  # the weights are not so small that all is zero
    torch.testing.assert_close(raw.deltas, expected["bbox_regression"], atol=1e-4, rtol=0)
    torch.testing.assert_close(raw.logits, expected["cls_logits"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_anchors_are_torchvisions(pair: tuple[SSD, Detector], images: Tensor) -> None:
    theirs, ours = pair
    expected = anchors_xyxy(theirs, torch.zeros(1, 3, 320, 320))[0]
    # Ours are computed in float64: the rounding is theirs.
    torch.testing.assert_close(ours.objective.anchors.boxes_xyxy, expected, rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    "thresholds",
    [
        Thresholds(score=0.001, iou=0.55, candidates_per_class=300, max_detections=300),
        Thresholds(score=0.02, iou=0.3, candidates_per_class=20, max_detections=1000),
    ],
)
def test_detections_are_torchvisions(
    pair: tuple[SSD, Detector], images: Tensor, thresholds: Thresholds
) -> None:
    theirs, ours = pair
    theirs.score_thresh, theirs.nms_thresh = thresholds.score, thresholds.iou
    theirs.topk_candidates = thresholds.candidates_per_class
    theirs.detections_per_img = thresholds.max_detections
    expected = theirs([image.permute(2, 0, 1).float() / 255 for image in images])
    found = ours.postprocess(ours.model(ours.normalise(images)), thresholds)
    for (boxes, scores, labels), image in zip(found, expected, strict=True):
        assert len(image["scores"]) > 100
        torch.testing.assert_close(scores, image["scores"], atol=1e-5, rtol=0)
        # Neighbours of nearly one score may change places: compare in an order of our own.
        a, b = _order(labels, boxes), _order(image["labels"] - 1, image["boxes"])
        assert torch.equal(labels[a], image["labels"][b] - 1)
        torch.testing.assert_close(boxes[a], image["boxes"][b], atol=1e-2, rtol=0)


def _order(labels: Tensor, boxes: Tensor) -> Tensor:
    keys = (*boxes.round(decimals=1).T.flip(0).numpy(), labels.numpy())
    return torch.from_numpy(np.lexsort(keys))


@pytest.mark.parametrize("counts", [[3, 7], [0, 5], [1, 0], [0, 0], [40, 2]])
def test_loss_and_gradients_are_torchvisions(pair: tuple[SSD, Detector], counts: list[int]) -> None:
    theirs, ours = pair
    generator = torch.Generator().manual_seed(sum(counts))
    deltas = torch.randn(2, 3234, 4, generator=generator)
    logits = torch.randn(2, 3234, 91, generator=generator)
    targets = random_targets(counts, classes=90, seed=sum(counts))
    anchors = [ours.objective.anchors.boxes_xyxy] * 2

    their_raw = {
        "bbox_regression": deltas.clone().requires_grad_(),
        "cls_logits": logits.clone().requires_grad_(),
    }
    expected = compute_loss(theirs, their_raw, targets, anchors)
    sum(expected.values()).backward()
    raw = SSDOutputs(deltas.clone().requires_grad_(), logits.clone().requires_grad_())
    losses = ours.objective(raw, as_ours(targets))
    sum(losses.values()).backward()

    torch.testing.assert_close(losses["box"], expected["bbox_regression"])
    torch.testing.assert_close(losses["class"], expected["classification"])
    for mine, other in zip(raw, their_raw.values(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)
    assert (sum(losses.values()) > 0) == (sum(counts) > 0)


def test_gradients_of_all_weights_are_torchvisions(pair: tuple[SSD, Detector]) -> None:
    """With BatchNorm's own statistics: those of a 1x1 map over three images amplify rounding."""
    theirs, ours = copy.deepcopy(pair)
    images = torch.rand(3, 3, 64, 64)
    targets = random_targets([3, 0, 2], classes=90, seed=5, side=64)
    expected = compute_loss(
        theirs, raw_outputs(theirs, images), targets, anchors_xyxy(theirs, images)
    )
    small = build("ssdlite320_mobilenet_v3_large", classes=ours.class_names, size=64)
    losses = small.objective(ours.model(images), as_ours(targets))
    sum(expected.values()).backward()
    sum(losses.values()).backward()
    torch.testing.assert_close(losses["box"], expected["bbox_regression"])
    torch.testing.assert_close(losses["class"], expected["classification"])
    their_gradient = torch.cat([each.grad.flatten() for each in theirs.parameters()])
    our_gradient = torch.cat([each.grad.flatten() for each in ours.parameters()])
    assert (our_gradient - their_gradient).norm() < 1e-4 * their_gradient.norm()


def test_batch_norm_trains_as_torchvisions(pair: tuple[SSD, Detector]) -> None:
    theirs, ours = (
        [(n.eps, n.momentum) for n in model.modules() if isinstance(n, nn.BatchNorm2d)]
        for model in pair
    )
    assert ours == theirs
