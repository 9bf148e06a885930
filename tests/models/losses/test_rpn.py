"""The RPN's loss against torchvision's `RegionProposalNetwork.compute_loss`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torchvision.models.detection.rpn import RegionProposalNetwork

from flyweight.models.losses.rpn import rpn_loss


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_losses_and_gradients_are_torchvisions(share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    images, anchors = 3, 80
    draw = torch.rand(images, anchors, generator=generator)
    positive, negative = draw < share, draw > 0.7
    target = torch.randn(images, anchors, 4, generator=generator)
    objectness = torch.randn(images, anchors, generator=generator).requires_grad_()
    deltas = torch.randn(images, anchors, 4, generator=generator).requires_grad_()
    losses = rpn_loss(objectness, deltas, target, positive, negative)
    (losses["rpn_objectness"] + 3 * losses["rpn_box"]).backward()
    mine = objectness.grad, deltas.grad

    # Called unbound: the method asks its module for the sampler only.
    sampler = SimpleNamespace(fg_bg_sampler=lambda labels: (list(positive), list(negative)))
    theirs = (
        objectness.detach().clone().requires_grad_(),
        deltas.detach().clone().requires_grad_(),
    )
    expected = RegionProposalNetwork.compute_loss(
        sampler,
        theirs[0].reshape(-1, 1),
        theirs[1].reshape(-1, 4),
        list(positive.float()),
        list(target),
    )
    torch.testing.assert_close((losses["rpn_objectness"], losses["rpn_box"]), expected)
    (expected[0] + 3 * expected[1]).backward()
    torch.testing.assert_close(mine, (theirs[0].grad, theirs[1].grad))


def test_nothing_sampled_is_zero() -> None:
    none = torch.zeros(2, 5, dtype=torch.bool)
    losses = rpn_loss(torch.randn(2, 5), torch.randn(2, 5, 4), torch.zeros(2, 5, 4), none, none)
    assert [loss.item() for loss in losses.values()] == [0, 0]
