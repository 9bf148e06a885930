"""Smooth L1 by hand-worked values."""

from __future__ import annotations

import pytest
import torch

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
