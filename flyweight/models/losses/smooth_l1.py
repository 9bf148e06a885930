"""Smooth L1 loss (Girshick 2015, Fast R-CNN, equation 3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# A anchors


def smooth_l1_terms(deltas: Tensor, target_deltas: Tensor, *, beta: float = 1.0) -> Tensor:
    """Of each anchor, `[..., A]`: `d²/2β` where `d = |x - t| < β`, else `d - β/2`, over the deltas.

    Args:
        deltas: `[..., A, 4]`.
        target_deltas: `[..., A, 4]`.
        beta: where the parabola ends; 0 is L1.
    """
    return functional.smooth_l1_loss(
        deltas.float(), target_deltas, reduction="none", beta=beta
    ).sum(-1)


def smooth_l1_loss(
    deltas: Tensor, target_deltas: Tensor, mask: Tensor, *, beta: float = 1.0
) -> Tensor:
    """Sum of the terms over the anchors that `mask` chooses.

    Masked, not indexed: the shapes stay static, so a GPU is never waited for.

    Args:
        deltas: `[..., A, 4]`.
        target_deltas: `[..., A, 4]`, finite everywhere.
        mask: bool `[..., A]`.

    Returns:
        A scalar.
    """
    return torch.where(mask, smooth_l1_terms(deltas, target_deltas, beta=beta), 0.0).sum()
