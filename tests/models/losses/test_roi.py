"""The second stage's loss against torchvision's `fastrcnn_loss`."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.roi_heads import fastrcnn_loss

from flyweight.models.losses.roi import roi_loss


@pytest.mark.parametrize("background", [0.0, 0.7, 1.0])
def test_losses_and_gradients_are_torchvisions(background: float) -> None:
    generator = torch.Generator().manual_seed(0)
    regions, columns = 90, 6
    logits = torch.randn(regions, columns, generator=generator).requires_grad_()
    deltas = torch.randn(regions, columns, 4, generator=generator).requires_grad_()
    target = torch.randn(regions, 4, generator=generator)
    classes = torch.randint(1, columns, (regions,), generator=generator)
    classes[torch.rand(regions, generator=generator) < background] = 0
    mask = torch.rand(regions, generator=generator) < 0.6
    losses = roi_loss(logits, deltas, classes, target, mask)
    (losses["roi_class"] + 2 * losses["roi_box"]).backward()
    mine = logits.grad, deltas.grad

    theirs = logits.detach().clone().requires_grad_(), deltas.detach().clone().requires_grad_()
    expected = fastrcnn_loss(
        theirs[0][mask], theirs[1][mask].flatten(1), [classes[mask]], [target[mask]]
    )
    torch.testing.assert_close((losses["roi_class"], losses["roi_box"]), expected)
    (expected[0] + 2 * expected[1]).backward()
    torch.testing.assert_close(mine, (theirs[0].grad, theirs[1].grad))


def test_a_batch_is_its_regions_in_a_row_and_padding_may_hold_any_class() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 10, 4, generator=generator)
    deltas = torch.randn(2, 10, 4, 4, generator=generator)
    target = torch.randn(2, 10, 4, generator=generator)
    classes = torch.randint(0, 4, (2, 10), generator=generator)
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[1, 6:] = False
    classes[1, 6:] = -1
    batch = roi_loss(logits, deltas, classes, target, mask)
    rows = [each.flatten(0, 1)[:16] for each in (logits, deltas, classes, target)]
    torch.testing.assert_close(batch, roi_loss(*rows))


def test_nothing_sampled_is_zero() -> None:
    none = torch.zeros(5, dtype=torch.bool)
    classes = torch.zeros(5, dtype=torch.int64)
    losses = roi_loss(torch.randn(5, 3), torch.randn(5, 3, 4), classes, torch.zeros(5, 4), none)
    assert [loss.item() for loss in losses.values()] == [0, 0]
