"""AP of a data set whose images weigh differently, without matching a box again.

A bootstrap resample of the images is the same images with other weights: how often each was
drawn. An image's matches do not depend on the other images, so precision and recall of a resample
are sums of weights over detections that are sorted by score once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flyweight.evaluation.matches import Flags, Floats, Integers, Matches

# B resamples, I images, C classes, T IoU thresholds, D detections of one class, H hits among them

RECALL_POINTS = np.linspace(0.0, 1.0, 101)
# of the `[B, D]` table of one class, so that it stays in the processor's cache
MOST_CELLS = 2**18


@dataclass(frozen=True, eq=False)
class _ClassMatches:
    """The detections of one class over all images, best score first."""

    label: int
    image: Integers  # [D]
    hit: Flags  # [T, D]
    ignored: Flags  # [T, D]


class Recount:
    """Counts AP anew for any weights of the images."""

    def __init__(self, matches: Matches) -> None:
        """Sort the detections; of equal scores the earlier image goes first, as in COCO's code."""
        self._objects = matches.objects
        self._thresholds = len(matches.target)
        order = np.lexsort((-matches.score, matches.label))
        labels, hit = matches.label[order], matches.hit
        self._classes = []
        for label in np.flatnonzero(matches.objects.any(axis=0)).tolist():
            start, end = np.searchsorted(labels, (label, label + 1))
            rows = order[start:end]
            self._classes.append(
                _ClassMatches(label, matches.image[rows], hit[:, rows], matches.ignored[:, rows])
            )

    def average_precision(self, weights: Integers | None = None) -> Floats:
        """AP `[B, T]` at each IoU threshold: the mean over the classes that have objects.

        With the weights of a resample it is the AP of a data set in which image i stands
        `weights[i]` times (next to each other, where scores are equal).

        Args:
            weights: `[B, I]` whole numbers; None weighs each image once.

        Returns:
            NaN for a resample without any object.
        """
        by_class = self.by_class(weights)
        counted = (~np.isnan(by_class)).sum(axis=2)
        total = np.nansum(by_class, axis=2)
        return np.divide(total, counted, out=np.full_like(total, np.nan), where=counted > 0)

    def by_class(self, weights: Integers | None = None) -> Floats:
        """AP `[B, T, C]` of each class, NaN where it has no object; `weights` as above."""
        if weights is None:
            weights = np.ones((1, len(self._objects)), dtype=np.int64)
        objects = weights @ self._objects
        ap = np.full((len(weights), self._thresholds, objects.shape[1]), np.nan)
        for each in self._classes:
            step = max(1, MOST_CELLS // max(1, len(each.image)))
            for start in range(0, len(weights), step):
                rows = slice(start, start + step)
                ap[rows, :, each.label] = _class_ap(each, weights[rows], objects[rows, each.label])
        return ap


def _class_ap(matches: _ClassMatches, weights: Integers, objects: Integers) -> Floats:
    """AP `[B, T]` of one class; NaN where it has no object. `objects [B]` are its weighed objects.

    Precision is only ever read where recall rises, which is at hits: everything but the running
    count of all detections is done for these few.
    """
    drawn = weights[:, matches.image]  # [B, D]
    seen = np.cumsum(drawn, axis=1)
    ap = np.zeros((len(weights), len(matches.hit)))
    for level, (hit, ignored) in enumerate(zip(matches.hit, matches.ignored, strict=True)):
        at = np.flatnonzero(hit)
        if not len(at):
            continue
        hits = np.cumsum(drawn[:, at], axis=1)  # [B, H]
        counted = seen[:, at] - _running_count(drawn, ignored, at)
        # the tiny addend is the reference code's, against 0 / 0
        precision = hits / (counted + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        # how many recall points each hit is the first to reach
        recall = hits / np.maximum(objects, 1)[:, None]
        reached = np.searchsorted(RECALL_POINTS, recall, side="right")
        gained = np.diff(reached, axis=1, prepend=0)
        ap[:, level] = np.einsum("bh,bh->b", best, gained) / len(RECALL_POINTS)
    return np.where(objects[:, None] > 0, ap, np.nan)


def _running_count(drawn: Integers, chosen: Flags, at: Integers) -> Integers | int:
    """Weight `[B, H]` of the `chosen [D]` detections up to each place of `at [H]`."""
    places = np.flatnonzero(chosen)
    if not len(places):
        return 0
    counts = np.cumsum(drawn[:, places], axis=1)
    before = np.searchsorted(places, at)
    return np.where(before > 0, counts[:, before - 1], 0)
