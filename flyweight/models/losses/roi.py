"""The loss of the second stage (Girshick 2015, Fast R-CNN, equations 1 and 2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from flyweight.models.losses.batch_count import mean_over_processes
from flyweight.models.losses.smooth_l1 import smooth_l1_terms

# R regions of interest, C classes; logits have C + 1 columns, background first


def roi_loss(
    logits: Tensor,
    deltas: Tensor,
    target_classes: Tensor,
    target_deltas: Tensor,
    mask: Tensor | None = None,
    *,
    beta: float = 1 / 9,
) -> dict[str, Tensor]:
    """Cross entropy of the sampled regions and smooth L1 of the positive ones, in the deltas of
    their class, both divided by the number of sampled regions, as torchvision does it.

    Args:
        logits: `[..., R, C + 1]`, background first.
        deltas: `[..., R, C + 1, 4]`, for each class its own.
        target_classes: int64 `[..., R]`, 0 for background, else class + 1.
        target_deltas: `[..., R, 4]`, finite everywhere, read only where a region is positive.
        mask: bool `[..., R]`, the sampled regions; None for all.
        beta: of smooth L1.

    Returns:
        `roi_class` and `roi_box`, scalars.
    """
    if mask is None:
        mask = torch.ones_like(target_classes, dtype=torch.bool)
    classes = torch.where(mask, target_classes, 0)
    count = mean_over_processes(mask.sum()).clamp(min=1)
    cross_entropy, box = _terms(logits, deltas, classes, target_deltas, beta=beta)
    return {
        "roi_class": torch.where(mask, cross_entropy, 0.0).sum() / count,
        "roi_box": box.sum() / count,
    }


def roi_terms(
    logits: Tensor,
    deltas: Tensor,
    target_classes: Tensor,
    target_deltas: Tensor,
    *,
    beta: float = 1 / 9,
) -> Tensor:
    """Both losses of each region, `[..., R]`, for online hard example mining; see `roi_loss`."""
    cross_entropy, box = _terms(logits, deltas, target_classes, target_deltas, beta=beta)
    return cross_entropy + box


def _terms(
    logits: Tensor, deltas: Tensor, classes: Tensor, target_deltas: Tensor, *, beta: float
) -> tuple[Tensor, Tensor]:
    """Cross entropy `[..., R]`, and smooth L1 of the positive regions, 0 elsewhere."""
    cross_entropy = functional.cross_entropy(
        logits.float().flatten(0, -2), classes.flatten(), reduction="none"
    ).view_as(classes)
    column = classes[..., None, None].expand(*classes.shape, 1, 4)
    of_class = deltas.gather(-2, column).squeeze(-2)
    box = smooth_l1_terms(of_class, target_deltas, beta=beta)
    return cross_entropy, torch.where(classes > 0, box, 0.0)
