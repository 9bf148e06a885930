"""RetinaNet's loss: focal for classes, smooth L1 for boxes (Lin et al. 2017, section 4.1)."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from flyweight.models.losses.batch_count import mean_over_processes
from flyweight.models.losses.box_terms import BoxTerms
from flyweight.models.losses.focal import focal_terms
from flyweight.models.losses.label_smoothing import smooth_targets
from flyweight.models.losses.smooth_l1 import smooth_l1_terms

# B images, A anchors, C classes without background

Normalisation = Literal["batch", "image"]

retinanet_box_terms = partial(smooth_l1_terms, beta=1 / 9)


def retinanet_loss(
    deltas: Tensor,
    logits: Tensor,
    target_deltas: Tensor,
    target_classes: Tensor,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    box_terms: BoxTerms = retinanet_box_terms,
    label_smoothing: float = 0.0,
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
        box_terms: the box loss of each anchor, from deltas; torchvision trains with L1.
        label_smoothing: ε of the classes.
        normalisation: "batch" divides by the positives of the batch; "image" divides each image by
            its own and averages over the images, as torchvision does.

    Returns:
        `box` and `class`, scalars.
    """
    positive = target_classes >= 0
    classes = torch.arange(logits.shape[-1], device=logits.device)
    one_hot = (target_classes.unsqueeze(-1) == classes).float()
    wanted = smooth_targets(one_hot, smoothing=label_smoothing)
    focal = focal_terms(logits, wanted, alpha=alpha, gamma=gamma).sum(-1)
    focal = torch.where(target_classes >= -1, focal, 0.0)
    box = torch.where(positive, box_terms(deltas, target_deltas), 0.0)
    if normalisation == "batch":
        share = mean_over_processes(positive.sum()).clamp(min=1).reciprocal()
    else:
        share = positive.sum(1).clamp(min=1).reciprocal() / len(positive)
    return {"box": (box.sum(1) * share).sum(), "class": (focal.sum(1) * share).sum()}
