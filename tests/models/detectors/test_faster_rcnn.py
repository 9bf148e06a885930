"""Our Faster R-CNNs against torchvision's, with the same random weights."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import (
    FasterRCNN,
    FasterRCNN_MobileNet_V3_Large_320_FPN_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
    fasterrcnn_mobilenet_v3_large_320_fpn,
    fasterrcnn_resnet50_fpn,
)
from torchvision.models.detection.image_list import ImageList

from flyweight.core.errors import InputError
from flyweight.core.manifest import Thresholds
from flyweight.core.nms import select_detections
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.faster_rcnn import FasterRCNNOutputs
from flyweight.models.detectors.targets import Targets
from flyweight.models.detectors.torchvision_weights import load_torchvision_weights
from flyweight.models.detectors.zoo import build, describe

# B images, A anchors, K proposals, C classes

CLASSES = tuple(f"class {index}" for index in range(5))
SIZE_HW = (96, 160)
MODELS: dict[str, Callable[..., FasterRCNN]] = {
    "faster_rcnn_resnet50_fpn": fasterrcnn_resnet50_fpn,
    "faster_rcnn_mobilenet_v3_large_320_fpn": fasterrcnn_mobilenet_v3_large_320_fpn,
}
Pair = tuple[FasterRCNN, Detector]


@torch.no_grad()
def randomise(theirs: FasterRCNN) -> None:
    """Every BatchNorm its own statistics, and heads whose scores and boxes are spread."""
    generator = torch.Generator().manual_seed(1)
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            shape = layer.weight.shape
            layer.weight.copy_(0.75 + 0.5 * torch.rand(shape, generator=generator))
            layer.bias.copy_(0.2 * torch.randn(shape, generator=generator))
            layer.running_mean.copy_(0.1 * torch.randn(shape, generator=generator))
            layer.running_var.copy_(0.5 + torch.rand(shape, generator=generator))
    features = theirs.backbone(example_images())
    for layer in (theirs.backbone.fpn, theirs.rpn.head, theirs.roi_heads):
        for parameter in layer.parameters():
            if parameter.ndim == 1:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    # Features of deviation 1, then objectness, deltas, classes and boxes of known spread, which
    # differ from place to place.
    scale = 1 / features["0"].std()
    for block in theirs.backbone.fpn.inner_blocks:
        block[0].weight.mul_(scale)
    features = theirs.backbone(example_images())
    objectness, deltas = theirs.rpn.head(list(features.values()))
    theirs.rpn.head.cls_logits.weight.mul_(2 / objectness[0].std())
    theirs.rpn.head.bbox_pred.weight.mul_(0.3 / deltas[0].std())
    corner = 80 * torch.rand(2, 30, 2, generator=generator)
    boxes = torch.cat((corner, corner + 5 + 70 * torch.rand(2, 30, 2, generator=generator)), dim=2)
    predictor = theirs.roi_heads.box_predictor
    for layer, index, spread in ((predictor.cls_score, 0, 2.0), (predictor.bbox_pred, 1, 1.0)):
        layer.weight.mul_(spread / second_stage(theirs, features, list(boxes))[index].std(0).mean())
        layer.bias.sub_(second_stage(theirs, features, list(boxes))[index].mean(0))


def second_stage(
    theirs: FasterRCNN, features: dict[str, Tensor], proposals: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Class logits `[R, C + 1]` and box deltas `[R, 4 * (C + 1)]`."""
    heads = theirs.roi_heads
    pooled = heads.box_roi_pool(features, proposals, [SIZE_HW] * len(proposals))
    logits, deltas = heads.box_predictor(heads.box_head(pooled))
    return logits, deltas


def example_images() -> Tensor:
    """Normalised `[2, 3, H, W]`, blobs and noise."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.randn(2, 3, 8, 10, generator=generator)
    fine = nn.functional.interpolate(coarse, size=SIZE_HW, mode="bilinear")
    return fine + 0.2 * torch.randn(2, 3, *SIZE_HW, generator=generator)


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest) -> Pair:
    torch.manual_seed(0)
    counts = {"rpn_post_nms_top_n_test": 150, "rpn_post_nms_top_n_train": 200}
    theirs = MODELS[request.param](
        weights=None, weights_backbone=None, num_classes=6, **counts
    ).eval()
    randomise(theirs)
    ours = build(request.param, classes=CLASSES, size=SIZE_HW, proposals=150, proposals_train=200)
    load_torchvision_weights(theirs.state_dict(), ours)
    return theirs, ours.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return example_images()


def image_list(images: Tensor) -> ImageList:
    return ImageList(images, [SIZE_HW] * len(images))


def counterparts(mine: Tensor, other: Tensor, *labels: Tensor) -> Tensor:
    """Of each box of `mine [N, 4]` the one of `other [N, 4]` of its label that lies where it does.

    Neighbours of nearly one score may change places: sets are compared, not lists.
    """
    assert len(mine) == len(other)
    distances = (mine[:, None] - other[None]).abs().amax(-1)
    if labels:
        distances[labels[0][:, None] != labels[1][None]] = torch.inf
    nearest = distances.min(dim=1)
    assert nearest.values.max() < 1e-3
    assert distances.min(dim=0).values.max() < 1e-3
    return nearest.indices


@torch.no_grad()
def test_anchors_and_raw_outputs_are_torchvisions(pair: Pair, images: Tensor) -> None:
    theirs, ours = pair
    features = theirs.backbone(images)
    objectness, deltas = theirs.rpn.head(list(features.values()))
    raw = ours.model(images)
    assert [each.shape for each in raw.features] == [each.shape for each in features.values()]
    flat = [
        torch.cat([each.unflatten(1, (-1, size)).permute(0, 3, 4, 1, 2).flatten(1, 3)
                   for each in levels], dim=1)
        for levels, size in ((objectness, 1), (deltas, 4))
    ]  # fmt: skip
    for mine, other in (
        *zip(raw.features, features.values(), strict=True),
        (raw.objectness, flat[0].squeeze(-1)),
        (raw.deltas, flat[1]),
    ):
        assert other.std() > 0.1
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4 * other.abs().max().item())
    anchors = theirs.rpn.anchor_generator(image_list(images), list(features.values()))[0]
    torch.testing.assert_close(ours.objective.anchors.boxes_xyxy, anchors, rtol=0, atol=1e-4)


@torch.no_grad()
def test_proposals_are_torchvisions(pair: Pair, images: Tensor) -> None:
    theirs, ours = pair
    expected, _ = theirs.rpn(image_list(images), theirs.backbone(images))
    raw = ours.model(images)
    boxes, valid = ours.postprocess.propose(raw.objectness, raw.deltas)
    for mine, there, other in zip(boxes, valid, expected, strict=True):
        assert there.sum() == len(other) > 50
        assert not mine[~there].any()
        counterparts(mine[there], other)


@torch.no_grad()
def test_the_second_stage_is_torchvisions(pair: Pair, images: Tensor) -> None:
    theirs, ours = pair
    features = theirs.backbone(images)
    proposals, _ = theirs.rpn(image_list(images), features)
    same = torch.stack([each[:50] for each in proposals])
    # Of all sizes, so that every level is used where there are several.
    same[:, :4] = torch.tensor(
        [[3.0, 2, 20, 25], [5, 5, 100, 80], [0, 0, 160, 128], [-80, -90, 400, 500]]
    )
    logits, deltas = second_stage(theirs, features, list(same))
    raw = ours.model(images)
    assert logits.std(0).min() > 0.5
    for static in (False, True):
        mine = raw.roi_head(raw.features, same, static=static)
        torch.testing.assert_close(mine[0].flatten(0, 1), logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(mine[1].flatten(0, 1).flatten(1), deltas, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_detections_are_torchvisions(pair: Pair, images: Tensor) -> None:
    theirs, ours = pair
    features = theirs.backbone(images)
    proposals, _ = theirs.rpn(image_list(images), features)
    expected, _ = theirs.roi_heads(features, proposals, [SIZE_HW] * 2)
    assert ours.thresholds == Thresholds(0.05, 0.5, 1000, 100)
    found = ours.postprocess(ours.model(images), ours.thresholds)
    assert len({label for image in expected for label in image["labels"].tolist()}) > 1
    for (boxes, scores, labels), image in zip(found, expected, strict=True):
        assert len(boxes) == len(image["boxes"]) > 10
        same = counterparts(boxes, image["boxes"], labels, image["labels"] - 1)
        torch.testing.assert_close(scores, image["scores"][same], rtol=0, atol=1e-4)


class FirstInOrder:
    """A sampler without chance, for both codes."""

    def __init__(self, count: int, positive_share: float) -> None:
        self.count = count
        self.positives = int(count * positive_share)

    def choose(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """bool `[A]` both, of one image."""
        chosen = positive & (positive.cumsum(0) <= self.positives)
        return chosen, negative & (negative.cumsum(0) <= self.count - chosen.sum())

    def ours(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        pairs = [self.choose(p, n) for p, n in zip(positive, negative, strict=True)]
        return torch.stack([p for p, _ in pairs]), torch.stack([n for _, n in pairs])

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """torchvision's: labels of each image, 0 for background, -1 for ignored."""
        pairs = [self.choose(each >= 1, each == 0) for each in labels]
        return [p for p, _ in pairs], [n for _, n in pairs]


OBJECTS = [
    torch.tensor([[10.0, 20, 70, 90], [100, 5, 150, 100], [80, 60, 95, 70]]),
    torch.tensor([[0.0, 0, 40, 33]]),
]
LABELS = [torch.tensor([2, 0, 4]), torch.tensor([3])]


@pytest.mark.parametrize("empty", [False, True])
def test_losses_and_gradients_are_torchvisions(pair: Pair, images: Tensor, empty: bool) -> None:
    theirs, ours = copy.deepcopy(pair)
    boxes, labels = list(OBJECTS), list(LABELS)
    if empty:
        boxes[1], labels[1] = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    # Of the regions all: our proposals come in the order of anchors, torchvision's of scores.
    for stage, sampler in (("rpn", FirstInOrder(64, 0.5)), ("roi", FirstInOrder(512, 1.0))):
        setattr(ours.objective, f"{stage}_sampler", sampler.ours)
        getattr(theirs, "rpn" if stage == "rpn" else "roi_heads").fg_bg_sampler = sampler
    theirs.rpn.train()
    theirs.roi_heads.train()
    targets = [{"boxes": b, "labels": c + 1} for b, c in zip(boxes, labels, strict=True)]
    features = theirs.backbone(images)
    proposals, rpn_losses = theirs.rpn(image_list(images), features, targets)
    _, roi_losses = theirs.roi_heads(features, proposals, [SIZE_HW] * 2, targets)
    expected = {**rpn_losses, **roi_losses}
    losses = ours.objective(ours.model(images), Targets.from_lists(boxes, labels))
    names = {
        "rpn_objectness": "loss_objectness",
        "rpn_box": "loss_rpn_box_reg",
        "roi_class": "loss_classifier",
        "roi_box": "loss_box_reg",
    }
    assert set(losses) == set(names)
    for name, other in names.items():
        assert losses[name] > 0
        torch.testing.assert_close(losses[name], expected[other], rtol=1e-4, atol=1e-6)
    sum(losses.values()).backward()
    sum(expected.values()).backward()
    pairs = list(zip(theirs.parameters(), ours.model.parameters(), strict=True))
    theirs_gradient = torch.cat([a.grad.flatten() for a, _ in pairs])
    ours_gradient = torch.cat([b.grad.flatten() for _, b in pairs])
    assert (ours_gradient - theirs_gradient).norm() < 1e-3 * theirs_gradient.norm()


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("faster_rcnn_resnet50_fpn", FasterRCNN_ResNet50_FPN_Weights.COCO_V1),
        (
            "faster_rcnn_mobilenet_v3_large_320_fpn",
            FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1,
        ),
    ],
)
def test_published_parameters(name: str, published: FasterRCNN_ResNet50_FPN_Weights) -> None:
    with torch.device("meta"):
        detector = build(name, classes=[str(index) for index in range(90)])
    # torchvision counts its frozen BatchNorms' weights and biases as buffers.
    norms = sum(
        parameter.numel()
        for module in detector.modules()
        if isinstance(module, nn.BatchNorm2d)
        for parameter in module.parameters()
    )
    params = sum(parameter.numel() for parameter in detector.parameters())
    assert params - norms == published.meta["num_params"]
    assert params == describe(name).params


def test_weights_of_another_model_are_refused(pair: Pair) -> None:
    theirs, ours = pair
    state = dict(theirs.state_dict())
    state.pop("roi_heads.box_predictor.bbox_pred.bias")
    with pytest.raises(InputError, match="weights do not fit FasterRCNN"):
        load_torchvision_weights(state, ours)


@torch.no_grad()
def test_the_dense_contract_gives_the_same_detections(pair: Pair, images: Tensor) -> None:
    _, ours = pair
    raw: FasterRCNNOutputs = ours.model(images)
    boxes, scores = ours.postprocess.decode(raw)
    kept = ours.postprocess.propose.keep
    assert boxes.shape == (2, kept * 5, 4)
    assert scores.shape == (2, kept * 5, 5)
    assert ((scores > 0).sum(-1) <= 1).all()
    for index, (mine, values, labels) in enumerate(ours.postprocess(raw, ours.thresholds)):
        found = select_detections(
            boxes[index].numpy(),
            scores[index].numpy(),
            score_threshold=0.05,
            iou_threshold=0.5,
            candidates_per_class=1000,
            max_detections=100,
        )
        others = (torch.from_numpy(each) for each in (found.boxes_xyxy, found.labels, found.scores))
        their_boxes, their_labels, their_scores = others
        same = counterparts(mine, their_boxes, labels, their_labels)
        torch.testing.assert_close(values, their_scores[same], rtol=0, atol=1e-5)
