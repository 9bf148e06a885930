from __future__ import annotations

import torch
from torch.nn import functional

from flyweight.models.losses.label_smoothing import smooth_targets


def test_hand_worked() -> None:
    targets = torch.tensor([[0.0, 1.0, 0.5]])
    torch.testing.assert_close(
        smooth_targets(targets, smoothing=0.1), torch.tensor([[0.05, 0.95, 0.5]])
    )
    assert torch.equal(smooth_targets(targets, smoothing=0.0), targets)


def test_a_sigmoid_is_torchs_smoothed_choice_of_two() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(50) % 2
    loss = functional.binary_cross_entropy_with_logits(
        logits, smooth_targets(classes.float(), smoothing=0.2)
    )
    pair = torch.stack((torch.zeros(50), logits), dim=1)
    torch.testing.assert_close(loss, functional.cross_entropy(pair, classes, label_smoothing=0.2))
