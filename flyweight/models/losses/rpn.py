"""The loss of a region proposal network (Ren et al. 2015, Faster R-CNN, equation 1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from flyweight.models.losses.batch_count import mean_over_processes
from flyweight.models.losses.smooth_l1 import smooth_l1_loss

# B images, A anchors


def rpn_loss(
    objectness: Tensor,
    deltas: Tensor,
    target_deltas: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    beta: float = 1 / 9,
) -> dict[str, Tensor]:
    """Binary cross entropy of the sampled anchors and smooth L1 of the positive ones, both divided
    by the number of sampled anchors of the batch, as torchvision does it.

    Args:
        objectness: logits `[B, A]`.
        deltas: `[B, A, 4]`.
        target_deltas: `[B, A, 4]`, finite everywhere, read only where an anchor is positive.
        positive: bool `[B, A]`, the sampled positives.
        negative: bool `[B, A]`, the sampled negatives.
        beta: of smooth L1.

    Returns:
        `rpn_objectness` and `rpn_box`, scalars.
    """
    sampled = positive | negative
    count = mean_over_processes(sampled.sum()).clamp(min=1)
    cross_entropy = functional.binary_cross_entropy_with_logits(
        objectness.float(), positive.float(), reduction="none"
    )
    return {
        "rpn_objectness": torch.where(sampled, cross_entropy, 0.0).sum() / count,
        "rpn_box": smooth_l1_loss(deltas, target_deltas, positive, beta=beta) / count,
    }
