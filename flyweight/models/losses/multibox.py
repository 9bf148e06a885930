"""MultiBox loss with hard negative mining (Liu et al. 2016, equations 1 to 3 and section 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from flyweight.models.losses.smooth_l1 import smooth_l1_loss

# B images, A anchors, C classes; logits have C + 1 columns, background first


def hard_negatives(loss: Tensor, positive: Tensor, negatives_per_positive: float) -> Tensor:
    """In each image the background anchors of highest loss, a fixed number for each positive.

    Args:
        loss: `[B, A]`, of each anchor.
        positive: bool `[B, A]`.
        negatives_per_positive: 3 in the paper.

    Returns:
        bool `[B, A]`.
    """
    candidates = loss.detach().masked_fill(positive, -torch.inf)
    order = candidates.argsort(dim=1, descending=True)
    count = negatives_per_positive * positive.sum(1, keepdim=True)
    rank = torch.arange(loss.shape[1], device=loss.device)
    chosen = torch.zeros_like(positive).scatter_(1, order, rank < count)
    # With more than a quarter of the anchors positive, the negatives run out before the count.
    return chosen & ~positive


def multibox_loss(
    deltas: Tensor,
    logits: Tensor,
    target_deltas: Tensor,
    target_classes: Tensor,
    *,
    negatives_per_positive: float = 3.0,
) -> dict[str, Tensor]:
    """Localisation and confidence loss, each summed and divided by the positives of the batch.

    Args:
        deltas: `[B, A, 4]`.
        logits: `[B, A, C + 1]`, background first.
        target_deltas: `[B, A, 4]`, finite everywhere, read only where an anchor is positive.
        target_classes: int64 `[B, A]`, 0 for background, else class + 1.

    Returns:
        `box` and `class`, scalars.
    """
    positive = target_classes > 0
    # [C + 1, ...] flattened: the two-dimensional kernel is several times the spatial one's speed.
    class_loss = functional.cross_entropy(
        logits.float().flatten(0, 1), target_classes.flatten(), reduction="none"
    ).view_as(target_classes)
    counted = positive | hard_negatives(class_loss, positive, negatives_per_positive)
    positives = positive.sum().clamp(min=1)
    return {
        "box": smooth_l1_loss(deltas, target_deltas, positive) / positives,
        "class": torch.where(counted, class_loss, 0.0).sum() / positives,
    }
