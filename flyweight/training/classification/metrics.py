"""How often a classifier is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# C classes


@dataclass(frozen=True)
class ClassificationResult:
    """Figures of one evaluation, shares from 0 to 1.

    Attributes:
        top1: images whose highest score is that of their class.
        balanced_accuracy: the mean over classes of the share of their images that are right
            (Brodersen et al. 2010), over those classes that have images.
    """

    top1: float
    balanced_accuracy: float


def confusion_matrix(
    labels: npt.NDArray[np.int64], found: npt.NDArray[np.int64], num_classes: int
) -> npt.NDArray[np.int64]:
    """`[C, C]`: how many images of the row's class were found to be of the column's.

    Args:
        labels: `[N]`, the truth.
        found: `[N]`.
    """
    pairs = np.bincount(labels * num_classes + found, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def classification_result(confusion: npt.NDArray[np.int64]) -> ClassificationResult:
    """The figures of a confusion matrix `[C, C]`."""
    right, images = confusion.diagonal(), confusion.sum(axis=1)
    shown = images > 0
    return ClassificationResult(
        top1=float(right.sum() / images.sum()),
        balanced_accuracy=float((right[shown] / images[shown]).mean()),
    )
