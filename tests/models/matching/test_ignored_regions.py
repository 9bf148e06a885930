"""Nothing inside of a region is called background: by the matches, and by every detector's loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pycocotools import mask

from flyweight.models.detectors.targets import Targets
from flyweight.models.losses.multibox import multibox_loss
from flyweight.models.matching import parts
from flyweight.models.matching.ignored_regions import ignore_in_regions


def random_boxes(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(*shape, 2, 2, generator=generator) * 100
    return torch.cat((corners.amin(-2), corners.amax(-2)), dim=-1)


def test_inside_is_as_cocos_crowds_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """pycocotools' overlap with a crowd is the share of the box's own area."""
    monkeypatch.setattr(parts, "MAX_PAIRS", 150)
    boxes, regions = random_boxes(40), random_boxes(5, 3, seed=1)
    regions[2, 1:] = 0
    matches = torch.full((5, 40), -1)
    matches[:, ::3] = torch.arange(14)
    matches[:, 1::7] = -2
    changed = ignore_in_regions(matches, boxes, regions)
    xywh = torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), dim=1).double().numpy()
    for image, of_image in enumerate(regions):
        crowds = torch.cat((of_image[:, :2], of_image[:, 2:] - of_image[:, :2]), dim=1)
        overlap = mask.iou(xywh, crowds.double().numpy(), [1] * 3).max(axis=1)
        inside = torch.from_numpy(overlap >= 0.5)
        expected = torch.where((matches[image] == -1) & inside, -2, matches[image])
        assert torch.equal(changed[image], expected)
    assert (changed != matches).any()
    assert (changed == -1).any()


def test_each_image_may_have_boxes_of_its_own() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10]], [[50, 50, 60, 60]]])
    regions = torch.tensor([[[0.0, 0, 20, 20]], [[0, 0, 20, 20]]])
    assert ignore_in_regions(torch.full((2, 1), -1), boxes, regions).tolist() == [[-2], [-1]]


def test_without_regions_nothing_changes() -> None:
    matches = torch.tensor([[-1, 3]])
    boxes = random_boxes(2)
    assert ignore_in_regions(matches, boxes, None) is matches
    assert ignore_in_regions(matches, boxes, torch.zeros(1, 0, 4)) is matches
    assert torch.equal(ignore_in_regions(matches, boxes, torch.zeros(1, 2, 4)), matches)
    flat = torch.zeros(2, 4)
    everywhere = torch.tensor([[[-9.0, -9, 99, 99]]])
    assert torch.equal(ignore_in_regions(matches, flat, everywhere), matches)


@pytest.mark.parametrize(
    ("name", "options", "background"),
    [
        ("retinanet_snet", {}, {"class"}),
        ("retinanet", {"assignment": "loss"}, {"class", "cell_class"}),
        ("yolov3", {}, {"objectness"}),
        ("faster_rcnn_mobilenet_v3_large_320_fpn", {}, {"rpn_objectness", "roi_class"}),
    ],
)
def test_no_detector_is_blamed_for_what_it_sees_there(
    small_detector: Callable[..., Any], name: str, options: dict[str, Any], background: set[str]
) -> None:
    """Without objects all of the loss is the background's; a region over everything leaves none."""
    detector = small_detector(name, **options).eval()
    raw = detector.model(torch.randn(2, 3, 64, 64))
    for slots in (0, 1):
        boxes, labels = torch.zeros(2, slots, 4), torch.full((2, slots), -1)
        everywhere = torch.tensor([[[-1e4, -1e4, 1e4, 1e4]]]).repeat(2, 1, 1)
        torch.manual_seed(0)
        before = detector.objective(raw, Targets(boxes, labels))
        after = detector.objective(raw, Targets(boxes, labels, everywhere))
        assert all(before[key] > 0 for key in background)
        assert all(loss == 0 for loss in after.values())


def test_ssd_mines_no_negatives_there(small_detector: Callable[..., Any]) -> None:
    detector = small_detector("ssdlite320_mobilenet_v2").eval()
    raw = detector.model(torch.randn(2, 3, 64, 64))
    boxes = torch.tensor([[[8.0, 8, 40, 44]], [[20, 4, 60, 50]]])
    labels = torch.tensor([[0], [2]])
    # right of the middle: of the negatives, only those left of it are left
    region = torch.tensor([[[33.3, -1e4, 1e4, 1e4]]]).repeat(2, 1, 1)
    deltas, classes = detector.objective.assign(Targets(boxes, labels))
    _, changed = detector.objective.assign(Targets(boxes, labels, region))
    anchors = detector.objective.anchors.boxes_xyxy
    right = (anchors[:, 0] + anchors[:, 2]) / 2 > 33.3
    assert torch.equal(changed, torch.where((classes == 0) & right, -1, classes))
    for mining in ("negatives", "hardest", "focal"):
        logits = raw.logits.detach().requires_grad_()
        losses = multibox_loss(raw.deltas.detach(), logits, deltas, changed, mining=mining)
        losses["class"].backward()
        assert logits.grad is not None
        touched = logits.grad.abs().sum(-1) > 0
        assert not touched[changed < 0].any()
        assert touched[changed > 0].all() or mining == "hardest"
        assert touched[changed == 0].any()
