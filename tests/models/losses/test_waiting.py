"""A GPU is never waited for: tensors without data go through, so that no value can be read back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from flyweight.models.losses.focal import sigmoid_focal_loss
from flyweight.models.losses.multibox import multibox_loss
from flyweight.models.losses.retina import retinanet_loss
from flyweight.models.losses.roi import roi_loss
from flyweight.models.losses.rpn import rpn_loss
from flyweight.models.losses.yolo import yolo_loss

BOXES = torch.zeros(3, 80, 4, device="meta", requires_grad=True)
LOGITS = torch.zeros(3, 80, 6, device="meta", requires_grad=True)
CLASSES = torch.zeros(3, 80, dtype=torch.int64, device="meta")
MASK = CLASSES > 0

CASES: dict[str, Callable[[], dict[str, Tensor]]] = {
    "focal": lambda: {"class": sigmoid_focal_loss(LOGITS, LOGITS.detach(), mask=MASK)},
    "multibox": lambda: multibox_loss(BOXES, LOGITS, BOXES.detach(), CLASSES),
    "retina": lambda: retinanet_loss(BOXES, LOGITS, BOXES.detach(), CLASSES),
    "rpn": lambda: rpn_loss(LOGITS[..., 0], BOXES, BOXES.detach(), MASK, ~MASK),
    "roi": lambda: roi_loss(
        LOGITS, BOXES.unsqueeze(2).expand(-1, -1, 6, -1), CLASSES, BOXES.detach(), MASK
    ),
    "yolo": lambda: yolo_loss(BOXES, LOGITS[..., 0], LOGITS[..., 1:], BOXES.detach(), CLASSES),
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_read_back(name: str) -> None:
    losses = CASES[name]()
    assert all(loss.shape == () for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
