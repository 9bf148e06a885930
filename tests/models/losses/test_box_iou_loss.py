"""IoU, GIoU, DIoU and CIoU losses: torchvision's values and gradients, and their geometry."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import ops

from flyweight.models.losses.box_iou_loss import MEASURES, BoxLossKind, iou_loss
from flyweight.models.losses.ciou import ciou
from flyweight.models.losses.diou import diou
from flyweight.models.losses.giou import giou
from flyweight.models.losses.iou import iou

ORACLES: dict[BoxLossKind, Callable[..., Tensor]] = {
    "giou": ops.generalized_box_iou_loss,
    "diou": ops.distance_box_iou_loss,
    "ciou": ops.complete_box_iou_loss,
}
KINDS: tuple[BoxLossKind, ...] = get_args(BoxLossKind)

# Quarters are exact in float32, and boxes often share a side.
quarters = st.integers(0, 400).map(lambda value: value / 4)
sides = st.integers(1, 200).map(lambda value: value / 4)
boxes = st.tuples(quarters, quarters, sides, sides).map(
    lambda box: torch.tensor([box[0], box[1], box[0] + box[2], box[1] + box[3]])
)


def random_boxes(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(*shape, 2, generator=generator) * 60
    return torch.cat((corner, corner + 2 + torch.rand(*shape, 2, generator=generator) * 50), -1)


def test_every_kind_has_a_measure() -> None:
    assert set(MEASURES) == set(KINDS)


@pytest.mark.parametrize("kind", ORACLES)
@pytest.mark.parametrize("unit", [1.0, 1 / 320])
def test_losses_and_gradients_are_torchvisions(kind: BoxLossKind, unit: float) -> None:
    targets = random_boxes(300, seed=1) * unit
    mine = (random_boxes(300, seed=0) * unit).requires_grad_()
    theirs = mine.detach().clone().requires_grad_()
    loss, expected = iou_loss(mine, targets, kind=kind), ORACLES[kind](theirs, targets)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    loss.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_iou_is_torchvisions() -> None:
    a, b = random_boxes(200, seed=2), random_boxes(200, seed=3)
    torch.testing.assert_close(iou_loss(a, b, kind="iou"), 1 - ops.box_iou(a, b).diagonal())


def test_leading_dimensions_are_kept() -> None:
    a, b = random_boxes(2, 3, 5, seed=4), random_boxes(2, 3, 5, seed=5)
    for kind in KINDS:
        assert torch.equal(
            iou_loss(a, b, kind=kind).flatten(),
            iou_loss(a.reshape(-1, 4), b.reshape(-1, 4), kind=kind),
        )


@settings(max_examples=60, deadline=None)
@given(boxes, boxes)
def test_order_and_range(a: Tensor, b: Tensor) -> None:
    overlap = iou(a, b).item()
    assert 0 <= overlap <= 1
    assert -1 - 1e-5 <= giou(a, b).item() <= overlap + 1e-5
    assert -1 - 1e-5 <= diou(a, b).item() <= overlap + 1e-5
    # DIoU less the aspect term, which is at most 1.
    assert -2 - 1e-5 <= ciou(a, b).item() <= diou(a, b).item() + 1e-5


@settings(max_examples=40, deadline=None)
@given(boxes, boxes, st.sampled_from([0.125, 4.0, 100.0]), st.sampled_from([-64.0, 1.0, 512.0]))
def test_symmetry_scale_and_place(a: Tensor, b: Tensor, scale: float, shift: float) -> None:
    for kind in KINDS:
        loss = iou_loss(a, b, kind=kind)
        torch.testing.assert_close(iou_loss(b, a, kind=kind), loss, rtol=0, atol=1e-5)
        for moved in (lambda box: box * scale, lambda box: box + shift):
            # eps is an area, so that the smallest boxes feel it.
            found = iou_loss(moved(a), moved(b), kind=kind)
            torch.testing.assert_close(found, loss, rtol=0, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(boxes)
def test_a_box_agrees_with_itself(a: Tensor) -> None:
    for kind in KINDS:
        assert iou_loss(a, a, kind=kind).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_without_area_give_finite_losses_and_gradients(kind: BoxLossKind) -> None:
    point, line = [5.0, 5.0, 5.0, 5.0], [2.0, 5.0, 9.0, 5.0]
    upright, box = [5.0, 2.0, 5.0, 9.0], [0.0, 0.0, 8.0, 8.0]
    shapes = torch.tensor([point, line, upright, box])
    a = shapes.repeat_interleave(4, 0).requires_grad_()
    loss = iou_loss(a, shapes.repeat(4, 1), kind=kind)
    assert loss.isfinite().all()
    loss.sum().backward()
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_hand_worked() -> None:
    # Two 4 x 4 squares, one moved right by 2: common 8, union 24, enclosing 6 x 4.
    a, b = torch.tensor([0.0, 0, 4, 4]), torch.tensor([2.0, 0, 6, 4])
    assert iou(a, b).item() == pytest.approx(1 / 3)
    assert giou(a, b).item() == pytest.approx(1 / 3)
    assert diou(a, b).item() == pytest.approx(1 / 3 - 4 / 52)
    assert ciou(a, b).item() == pytest.approx(1 / 3 - 4 / 52)
    # Apart by 4: nothing common, union 32, enclosing 12 x 4, centres 8 apart.
    c = torch.tensor([8.0, 0, 12, 4])
    assert giou(a, c).item() == pytest.approx(-16 / 48)
    assert diou(a, c).item() == pytest.approx(-64 / 160)


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_boxes_apart_are_drawn_together(kind: BoxLossKind) -> None:
    box = torch.tensor([50.0, 50.0, 60.0, 60.0], requires_grad=True)
    iou_loss(box, torch.tensor([0.0, 0.0, 10.0, 10.0]), kind=kind).backward()
    assert box.grad is not None
    assert box.grad.view(2, 2).sum(0).gt(0).all()
