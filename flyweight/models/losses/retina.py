"""RetinaNet's loss: focal for classes, smooth L1 for boxes (Lin et al. 2017, section 4.1)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from flyweight.models.losses.focal import focal_terms

# B images, A anchors, C classes without background

Normalisation = Literal["batch", "image"]


def retinanet_loss(
    deltas: Tensor,
    logits: Tensor,
    target_deltas: Tensor,
    target_classes: Tensor,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    beta: float = 1 / 9,
    normalisation: Normalisation = "batch",
) -> dict[str, Tensor]:
    """Both losses, summed and divided by the number of positive anchors.

    Args:
        deltas: `[B, A, 4]`.
        logits: `[B, A, C]`, a sigmoid for each class.
        target_deltas: `[B, A, 4]`, finite everywhere, read only where an anchor is positive.
        target_classes: int64 `[B, A]`, the class from 0, -1 for background, -2 for ignored.
        alpha: of the focal loss.
        gamma: of the focal loss.
        beta: of smooth L1; 0 is L1, which torchvision trains with.
        normalisation: "batch" divides by the positives of the batch; "image" divides each image by
            its own and averages over the images, as torchvision does.

    Returns:
        `box` and `class`, scalars.
    """
    positive = target_classes >= 0
    classes = torch.arange(logits.shape[-1], device=logits.device)
    one_hot = (target_classes.unsqueeze(-1) == classes).float()
    focal = focal_terms(logits, one_hot, alpha=alpha, gamma=gamma).sum(-1)
    focal = torch.where(target_classes >= -1, focal, 0.0)
    smooth_l1 = functional.smooth_l1_loss(
        deltas.float(), target_deltas, reduction="none", beta=beta
    ).sum(-1)
    smooth_l1 = torch.where(positive, smooth_l1, 0.0)
    if normalisation == "batch":
        share = positive.sum().clamp(min=1).reciprocal()
    else:
        share = positive.sum(1).clamp(min=1).reciprocal() / len(positive)
    return {"box": (smooth_l1.sum(1) * share).sum(), "class": (focal.sum(1) * share).sum()}
