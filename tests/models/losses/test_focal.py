"""The focal loss against torchvision's, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torchvision import ops

from flyweight.models.losses.focal import sigmoid_focal_loss


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.9, 1.0), (0.25, 3.5)])
@pytest.mark.parametrize("soft", [True, False])
def test_loss_and_gradient_are_torchvisions(alpha: float, gamma: float, soft: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 50, 7, generator=generator) * 4
    targets = torch.rand(2, 50, 7, generator=generator)
    if not soft:
        targets = (targets > 0.9).float()
    mine, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = sigmoid_focal_loss(mine, targets, alpha=alpha, gamma=gamma)
    expected = ops.sigmoid_focal_loss(theirs, targets, alpha, gamma, reduction="sum")
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_only_the_rows_of_the_mask_count() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 20, 4, generator=generator).requires_grad_()
    targets = (torch.rand(3, 20, 4, generator=generator) > 0.7).float()
    mask = torch.rand(3, 20, generator=generator) > 0.5
    loss = sigmoid_focal_loss(logits, targets, mask=mask)
    torch.testing.assert_close(
        loss, ops.sigmoid_focal_loss(logits[mask], targets[mask], reduction="sum")
    )
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.any(-1), mask)


def test_saturated_logits_stay_finite() -> None:
    logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0]]).requires_grad_()
    targets = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    loss = sigmoid_focal_loss(logits, targets)
    loss.backward()
    # Confident and right costs nothing; confident and wrong costs the distance: 200 each.
    assert loss.item() == pytest.approx(0.75 * 200 + 0.25 * 200)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = torch.randn(500, 5, generator=torch.Generator().manual_seed(2)).bfloat16()
    targets = torch.zeros(500, 5)
    loss = sigmoid_focal_loss(logits, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, sigmoid_focal_loss(logits.float(), targets))
