"""RetinaNet against torchvision's, with the same random weights; its ways to choose a level."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection import retinanet_resnet50_fpn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from flyweight.core.errors import InputError
from flyweight.core.manifest import Thresholds
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.models.detectors.torchvision_weights import load_torchvision_weights
from flyweight.models.detectors.zoo import build
from flyweight.models.losses.retina import retinanet_loss
from flyweight.models.losses.smooth_l1 import smooth_l1_terms

CLASSES = tuple(f"class {index}" for index in range(6))
SIZE_HW = (128, 192)


def randomise(module: nn.Module) -> None:
    """Statistics of every norm, and a head that finds things."""
    generator = torch.Generator().manual_seed(1)
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var", "weight", "bias")):
            noise = torch.rand(buffer.shape, generator=generator)
            spread = 0.1 * (noise - 0.5) if name.endswith(("mean", "bias")) else 0.8 + 0.4 * noise
            buffer.copy_(spread)
    for name, parameter in module.named_parameters():
        if ".head." in f".{name}" and parameter.ndim == 4:
            nn.init.normal_(parameter, std=0.02, generator=generator)


@pytest.fixture(scope="module")
def pair() -> tuple[TorchvisionRetinaNet, Detector]:
    torch.manual_seed(0)
    theirs = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=6)
    randomise(theirs)
    ours = build("retinanet_resnet50_fpn", classes=CLASSES, size=SIZE_HW)
    load_torchvision_weights(theirs.state_dict(), ours)
    return theirs.eval(), ours.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Normalised `[2, 3, H, W]`, blobs and noise."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.randn(2, 3, 8, 12, generator=generator)
    fine = nn.functional.interpolate(coarse, size=SIZE_HW, mode="bilinear")
    return fine + 0.2 * torch.randn(2, 3, *SIZE_HW, generator=generator)


@torch.no_grad()
def torchvision_raw(
    theirs: TorchvisionRetinaNet, images: Tensor
) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
    features = list(theirs.backbone(images).values())
    sizes = [SIZE_HW] * len(images)
    return (
        theirs.head(features),
        theirs.anchor_generator(ImageList(images, sizes), features),
        features,
    )


def test_raw_outputs_and_anchors(
    pair: tuple[TorchvisionRetinaNet, Detector], images: Tensor
) -> None:
    theirs, ours = pair
    expected, anchors, _ = torchvision_raw(theirs, images)
    with torch.no_grad():
        raw = ours.model(images)
    for mine, other in (
        (raw.deltas, expected["bbox_regression"]),
        (raw.logits, expected["cls_logits"]),
    ):
        assert mine.shape == other.shape
        assert other.std() > 0.01
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4 * other.abs().max().item())
    torch.testing.assert_close(ours.objective.anchors.boxes_xyxy, anchors[0], rtol=0, atol=1e-3)


def test_the_same_detections(pair: tuple[TorchvisionRetinaNet, Detector], images: Tensor) -> None:
    theirs, ours = pair
    outputs, anchors, features = torchvision_raw(theirs, images)
    counts = [feature.shape[-2] * feature.shape[-1] * 9 for feature in features]
    per_level = {name: list(each.split(counts, dim=1)) for name, each in outputs.items()}
    # A threshold that leaves some hundred candidates: fewer than the thousand a level.
    score = outputs["cls_logits"].sigmoid().flatten(1).topk(100).values[:, -1].min().item()
    theirs.score_thresh, theirs.nms_thresh, theirs.detections_per_img = score, 0.5, 300
    expected = theirs.postprocess_detections(
        per_level, [list(each.split(counts)) for each in anchors], [SIZE_HW] * 2
    )
    thresholds = Thresholds(score=score, iou=0.5, candidates_per_class=1000, max_detections=300)
    with torch.no_grad():
        found = ours.postprocess(ours.model(images), thresholds)
    for (boxes, scores, labels), wanted in zip(found, expected, strict=True):
        assert len(labels) == len(wanted["labels"]) > 10
        # As sets: scores that differ in the seventh digit change the order.
        same = (
            ((boxes[:, None] - wanted["boxes"]).abs().amax(-1) < 0.02)
            & ((scores[:, None] - wanted["scores"]).abs() < 1e-4)
            & (labels[:, None] == wanted["labels"])
        )
        assert same.any(0).all()
        assert same.any(1).all()


def test_the_same_losses(pair: tuple[TorchvisionRetinaNet, Detector], images: Tensor) -> None:
    theirs, ours = pair
    boxes = [
        torch.tensor([[10.0, 20, 70, 90], [100, 5, 180, 100]]),
        torch.tensor([[0.0, 0, 40, 33]]),
    ]
    labels = [torch.tensor([2, 0]), torch.tensor([5])]
    outputs, anchors, _ = torchvision_raw(theirs, images)
    targets = [{"boxes": b, "labels": c} for b, c in zip(boxes, labels, strict=True)]
    matches = [theirs.proposal_matcher(box_iou(each, anchors[0])) for each in boxes]
    expected = theirs.head.compute_loss(targets, outputs, anchors, matches)
    deltas, classes = ours.objective.assign(Targets.from_lists(boxes, labels))
    for index, match in enumerate(matches):
        wanted = torch.where(match >= 0, labels[index][match.clamp(min=0)], match)
        assert torch.equal(classes[index], wanted)
    # torchvision divides image by image and takes L1; otherwise the same sums.
    with torch.no_grad():
        raw = ours.model(images)
    losses = retinanet_loss(
        raw.deltas,
        raw.logits,
        deltas,
        classes,
        box_terms=partial(smooth_l1_terms, beta=0.0),
        normalisation="image",
    )
    torch.testing.assert_close(losses["class"], expected["classification"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["box"], expected["bbox_regression"], rtol=1e-4, atol=1e-5)


def test_published_figures() -> None:
    with torch.device("meta"):
        detector = build("retinanet_resnet50_fpn", classes=[str(index) for index in range(91)])
    # torchvision's metadata of RetinaNet_ResNet50_FPN_Weights.COCO_V1
    assert sum(each.numel() for each in detector.parameters()) == pytest.approx(
        34_014_999, rel=0.01
    )


def small(**options: object) -> Detector:
    torch.manual_seed(0)
    defaults: dict[str, object] = {
        "classes": ("a", "b"), "backbone": "mobilenet_v2", "size": 128, "width": 0.25
    }  # fmt: skip
    return build("retinanet", **(defaults | options))  # type: ignore[arg-type]


def one_object(*box_xyxy: float, label: int = 1) -> Targets:
    return Targets.from_lists([torch.tensor([box_xyxy])], [torch.tensor([label])])


def test_by_size_an_object_meets_the_anchors_of_its_level_only() -> None:
    # sqrt(112 * 112) is half of 224, so level 4 - 1 = 3, the finest, though larger anchors fit.
    box = (8.0, 8.0, 120.0, 120.0)
    sizes = {}
    for assignment in ("iou", "size"):
        objective = small(assignment=assignment).objective
        _, classes = objective.assign(one_object(*box))
        positive = classes[0] >= 0
        sizes[assignment] = objective.anchors.level_of_anchor[positive].unique().tolist()
    # By hand: level index 2 (cells of 32) has a square of 101 centred on (48, 48), which shares
    # 90.5² with the object: IoU 0.56. The square of 128 at level index 3 (cells of 64) is centred
    # on (32, 32) and shares 88²: IoU 0.37. Nothing at level index 1 is larger than 50: IoU 0.2.
    assert sizes["iou"] == [2]
    assert sizes["size"] == [0]


def test_anchors_that_leave_the_image_can_be_left_out() -> None:
    inside = small(inside_only=True).objective
    _, classes = inside.assign(one_object(40, 40, 90, 90))
    boxes = inside.anchors.boxes_xyxy
    outside = (boxes.amin(1) < 0) | (boxes.amax(1) > 128)
    assert outside.any()
    assert (classes[0][outside] == -2).all()
    assert (classes[0][~outside] == -1).any()


def test_by_loss_the_anchor_free_branch_learns_too() -> None:
    detector = small(assignment="loss").train()
    images = torch.randint(0, 256, (2, 128, 128, 3), dtype=torch.uint8)
    boxes = [torch.tensor([[10.0, 20, 70, 90]]), torch.zeros(0, 4)]
    targets = Targets.from_lists(boxes, [torch.tensor([1]), torch.zeros(0, dtype=torch.int64)])
    optimiser = torch.optim.AdamW(detector.parameters(), lr=0.003)
    totals = []
    for _ in range(8):
        losses = detector.loss(images, targets)
        assert set(losses) == {"box", "class", "cell_box", "cell_class"}
        total = torch.stack(list(losses.values())).sum()
        optimiser.zero_grad()
        total.backward()
        if not totals:
            assert [key for key, p in detector.named_parameters() if p.grad is None] == []
        optimiser.step()
        totals.append(losses["cell_box"].item() + losses["cell_class"].item())
    assert totals[-1] < totals[0]
    with torch.no_grad():
        boxes_found, scores = detector.eval()(images)
    cells = sum(rows * columns for rows, columns in detector.objective.anchors.grids)
    assert boxes_found.shape[1] == scores.shape[1] == len(detector.objective.anchors) + cells


def test_by_loss_the_level_that_predicts_best_gets_the_object() -> None:
    detector = small(assignment="loss")
    anchor_free = detector.objective.anchor_free
    cells = anchor_free.cells
    targets = one_object(32, 32, 96, 96)
    total = len(cells.centre)
    logits = torch.full((1, total, 2), -4.0)
    # Level index 2 (stride 32, 4 x 4 cells) predicts the very box and its class; the rest nothing.
    start = sum(rows * columns for rows, columns in cells.grids[:2])
    stop = start + cells.grids[2][0] * cells.grids[2][1]
    predicted = torch.zeros(1, total, 4)
    predicted[:, start:stop] = torch.tensor([32.0, 32, 96, 96])
    logits[:, start:stop, 1] = 4.0
    matches = anchor_free.assign(predicted, logits, targets)[0]
    where = (matches == 0).nonzero().flatten()
    assert len(where) > 0
    assert start <= int(where.min()) <= int(where.max()) < stop


def test_a_backbone_level_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="C9"):
        small(levels=("C3", "C9"))


def test_slim_retinanet_has_the_articles_operations() -> None:
    """SYSTEMS: 165 MMACs at 224 pixels; the box tower 45.1, the class tower 43.9."""
    from torch.utils.flop_counter import FlopCounterMode

    detector = build("retinanet_snet", classes=["card"]).eval()
    counter = FlopCounterMode(display=False, depth=8)
    with counter, torch.no_grad():
        detector.model(torch.zeros(1, 3, 224, 224))
    macs = {name: sum(each.values()) / 2e6 for name, each in counter.get_flop_counts().items()}
    head = "RetinaNet.head"
    layers = [macs[f"{head}.regression.tower.{index}"] for index in range(3)]
    assert layers == pytest.approx([8.68, 17.37, 17.37], rel=0.01)
    assert macs[f"{head}.regression.output"] == pytest.approx(1.63, rel=0.01)
    assert macs[f"{head}.regression"] == pytest.approx(45.1, rel=0.01)
    assert macs[f"{head}.classification"] == pytest.approx(43.9, rel=0.01)
    assert macs["Global"] == pytest.approx(165, rel=0.01)
