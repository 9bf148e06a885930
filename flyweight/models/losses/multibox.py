"""MultiBox loss with hard negative mining (Liu et al. 2016, equations 1 to 3 and section 2.2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from flyweight.models.losses.batch_count import mean_over_processes
from flyweight.models.losses.box_terms import BoxTerms
from flyweight.models.losses.smooth_l1 import smooth_l1_terms

Mining = Literal["negatives", "hardest", "focal"]

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
    count = negatives_per_positive * positive.sum(1, keepdim=True)
    # With more than a quarter of the anchors positive, the negatives run out before the count.
    return _hardest(loss.detach().masked_fill(positive, -torch.inf), count) & ~positive


def _hardest(loss: Tensor, count: Tensor) -> Tensor:
    """bool `[B, A]`: the `count [B, 1]` anchors of highest `loss [B, A]` in each image."""
    order = loss.detach().argsort(dim=1, descending=True)
    rank = torch.arange(loss.shape[1], device=loss.device)
    return torch.zeros_like(loss, dtype=torch.bool).scatter_(1, order, rank < count)


def multibox_loss(
    deltas: Tensor,
    logits: Tensor,
    target_deltas: Tensor,
    target_classes: Tensor,
    *,
    negatives_per_positive: float = 3.0,
    mining: Mining = "negatives",
    focal_alpha: float = 0.25,
    focal_gamma: float = 2.0,
    label_smoothing: float = 0.0,
    box_terms: BoxTerms = smooth_l1_terms,
) -> dict[str, Tensor]:
    """Localisation and confidence loss, each summed and divided by the positives of the batch.

    Args:
        deltas: `[B, A, 4]`.
        logits: `[B, A, C + 1]`, background first.
        target_deltas: `[B, A, 4]`, finite everywhere, read only where an anchor is positive.
        target_classes: int64 `[B, A]`, 0 for background, -1 for ignored, else class + 1.
        negatives_per_positive: of the mining.
        mining: whose class loss counts: all positives and the hardest "negatives"; the "hardest"
            of both, as many in all (OHEM, Shrivastava et al. 2016, section 4.1); or all anchors,
            weighed by how wrong they are ("focal", Lin et al. 2017, equation 5, over a softmax).
        focal_alpha, focal_gamma: of "focal".
        label_smoothing: ε of the classes (Szegedy et al. 2016, section 7).
        box_terms: the box loss of each anchor, from deltas.

    Returns:
        `box` and `class`, scalars.
    """
    positive = target_classes > 0
    wanted = target_classes.clamp(min=0)
    # [C + 1, ...] flattened: the two-dimensional kernel is several times the spatial one's speed.
    class_loss = functional.cross_entropy(
        logits.float().flatten(0, 1),
        wanted.flatten(),
        reduction="none",
        label_smoothing=label_smoothing,
    ).view_as(wanted)
    # the easiest there are: mining takes them last, and they add nothing
    class_loss = torch.where(target_classes < 0, 0.0, class_loss)
    if mining == "negatives":
        counted = positive | hard_negatives(class_loss, positive, negatives_per_positive)
        class_loss = torch.where(counted, class_loss, 0.0)
    elif mining == "hardest":
        count = (1 + negatives_per_positive) * positive.sum(1, keepdim=True)
        class_loss = torch.where(_hardest(class_loss, count), class_loss, 0.0)
    else:
        own = logits.float().log_softmax(-1).gather(-1, wanted.unsqueeze(-1)).squeeze(-1)
        alpha = torch.where(positive, focal_alpha, 1 - focal_alpha)
        class_loss = alpha * (1 - own.exp()) ** focal_gamma * class_loss
    positives = mean_over_processes(positive.sum()).clamp(min=1)
    box_loss = torch.where(positive, box_terms(deltas, target_deltas), 0.0)
    return {"box": box_loss.sum() / positives, "class": class_loss.sum() / positives}
