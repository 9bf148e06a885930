"""Focal loss (Lin et al. 2017, RetinaNet, equation 5)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# C classes


def focal_terms(
    logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """`-αₜ (1 - pₜ)^γ log(pₜ)` of each logit, `[..., C]`.

    Args:
        logits: `[..., C]`, a sigmoid for each class, no background.
        targets: float `[..., C]`, 0 to 1.
        alpha: weight of the positives; that of the negatives is `1 - alpha`.
        gamma: how fast the weight of easy examples falls; 0 is cross entropy.
    """
    logits, targets = logits.float(), targets.float()
    probability = logits.sigmoid()
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    miss = probability + targets - 2 * probability * targets  # 1 - pₜ
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return weight * miss**gamma * cross_entropy


def sigmoid_focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    mask: Tensor | None = None,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Tensor:
    """Sum of the focal loss over classes and over the rows that `mask` chooses.

    Args:
        logits: `[..., C]`.
        targets: float `[..., C]`, 0 to 1.
        mask: bool `[...]`, the rows that count; None for all.
        alpha: weight of the positives; that of the negatives is `1 - alpha`.
        gamma: how fast the weight of easy examples falls; 0 is cross entropy.

    Returns:
        A scalar.
    """
    loss = focal_terms(logits, targets, alpha=alpha, gamma=gamma)
    if mask is not None:
        loss = torch.where(mask.unsqueeze(-1), loss, 0.0)
    return loss.sum()
