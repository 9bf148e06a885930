"""Smooth L1 by hand-worked values, and against torch's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from flyweight.models.losses.smooth_l1 import smooth_l1_loss


@pytest.mark.parametrize(("beta", "expected"), [(1.0, 0.125 + 1.5), (0.5, 0.25 + 1.75)])
def test_values(beta: float, expected: float) -> None:
    deltas = torch.tensor([[0.5, 2.0, 0.0, 0.0], [7.0, 7.0, 7.0, 7.0]])
    mask = torch.tensor([True, False])
    loss = smooth_l1_loss(deltas, torch.zeros(2, 4), mask, beta=beta)
    assert loss.item() == pytest.approx(expected)


def test_nothing_chosen_is_zero_with_a_gradient() -> None:
    deltas = torch.randn(3, 4, requires_grad=True)
    loss = smooth_l1_loss(deltas, torch.zeros(3, 4), torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert deltas.grad is not None
    assert not deltas.grad.any()


@pytest.mark.parametrize("beta", [1.0, 1 / 9, 0.0])
def test_loss_and_gradient_are_torchs(beta: float) -> None:
    generator = torch.Generator().manual_seed(0)
    deltas = torch.randn(2, 30, 4, generator=generator)
    target = torch.randn(2, 30, 4, generator=generator)
    mask = torch.rand(2, 30, generator=generator) < 0.4
    mine, theirs = deltas.clone().requires_grad_(), deltas.clone().requires_grad_()
    loss = smooth_l1_loss(mine, target, mask, beta=beta)
    expected = functional.smooth_l1_loss(theirs[mask], target[mask], reduction="sum", beta=beta)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(mine.grad, theirs.grad)
