"""Smooth L1 loss (Girshick 2015, Fast R-CNN, equation 3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def smooth_l1_loss(
    deltas: Tensor, target_deltas: Tensor, mask: Tensor, *, beta: float = 1.0
) -> Tensor:
    """Sum over the anchors that `mask` chooses: `d²/2β` where `d = |x - t| < β`, else `d - β/2`.

    Masked, not indexed: the shapes stay static, so a GPU is never waited for.

    Args:
        deltas: `[..., A, 4]`.
        target_deltas: `[..., A, 4]`, finite everywhere.
        mask: bool `[..., A]`.

    Returns:
        A scalar.
    """
    loss = functional.smooth_l1_loss(
        deltas.float(), target_deltas, reduction="none", beta=beta
    ).sum(-1)
    return torch.where(mask, loss, 0.0).sum()
