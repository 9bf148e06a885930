"""Box arithmetic in torch, against torchvision's."""

from __future__ import annotations

import torch
from torchvision import ops

from flyweight.models.ops.boxes import box_area, box_iou


def random_boxes(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(*shape, 2, generator=generator) * 80
    return torch.cat((corner, corner + torch.rand(*shape, 2, generator=generator) * 40), dim=-1)


def test_iou_is_torchvisions_to_the_last_bit() -> None:
    a, b = random_boxes(50), random_boxes(70, seed=1)
    assert torch.equal(box_iou(a, b), ops.box_iou(a, b))
    assert torch.equal(box_area(a), ops.box_area(a))


def test_iou_broadcasts_over_a_batch() -> None:
    batch, anchors = random_boxes(3, 5), random_boxes(40, seed=1)
    expected = torch.stack([ops.box_iou(boxes, anchors) for boxes in batch])
    assert torch.equal(box_iou(batch, anchors), expected)


def test_iou_of_boxes_without_area_is_zero() -> None:
    point = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
    assert box_iou(point, point).item() == 0


def test_iou_leaves_its_input_alone() -> None:
    boxes = random_boxes(4)
    before = boxes.clone()
    box_iou(boxes, boxes)
    assert torch.equal(boxes, before)
