"""Weighted box fusion: what several detectors say about an image as one list of boxes.

Solovyev, Wang, Gabruseva 2021, "Weighted boxes fusion: Ensembling boxes from different object
detection models" (arXiv 1910.13302), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import box_iou
from flyweight.core.detections import Detections

# S sources (a teacher's look at a view of the image), M boxes of all of them, N fused boxes

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FusedBoxes:
    """What the sources agree on, sorted by score, best first.

    Attributes:
        detections: the N fused boxes.
        found_by: bool `[N, S]`, which sources had a box there.
    """

    detections: Detections
    found_by: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.detections)

    @property
    def votes(self) -> npt.NDArray[np.int64]:
        """`[N]`, how many sources had a box there."""
        return self.found_by.sum(axis=1)


def fuse_boxes(
    sources: Sequence[Detections], *, iou_threshold: float = 0.55, least_score: float = 0.0
) -> FusedBoxes:
    """Fuse the detections of S sources of the same image.

    Boxes are taken best first. Each joins the cluster of its class whose fused box it overlaps
    most, above `iou_threshold`, or starts one. A fused box is the mean of its cluster weighted by
    the scores (equations 2 and 3); its score is their mean (equation 1) times min(n, S) / S, n the
    size of the cluster (equation 5): what few sources see is not believed.

    Args:
        sources: boxes in pixels of the image.
        iou_threshold: 0.55 in the paper.
        least_score: boxes below it are left out.
    """
    kept = [found.above(least_score) for found in sources]
    scores = np.concatenate([found.scores for found in kept]).astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    boxes = np.concatenate([found.boxes_xyxy for found in kept]).astype(np.float64)[order]
    labels = np.concatenate([found.labels for found in kept])[order]
    source = np.repeat(np.arange(len(kept)), [len(found) for found in kept])[order]
    cluster, fused = _clusters(boxes, scores, labels, iou_threshold)
    count = len(fused)
    size = np.bincount(cluster, minlength=count)
    mean = np.bincount(cluster, weights=scores, minlength=count) / size
    score = mean * np.minimum(size, len(sources)) / len(sources)
    found_by = np.zeros((count, len(sources)), dtype=bool)
    found_by[cluster, source] = True
    label = np.zeros(count, np.int64)
    label[cluster] = labels
    # `Detections` sorts by float32: the same order here, or the votes would go to others
    ranking = np.argsort(-score.astype(np.float32), kind="stable")
    found = Detections(
        fused[ranking].astype(np.float32), score[ranking].astype(np.float32), label[ranking]
    )
    return FusedBoxes(found, found_by[ranking])


def _clusters(
    boxes_xyxy: Floats, scores: Floats, labels: npt.NDArray[np.int64], iou_threshold: float
) -> tuple[npt.NDArray[np.int64], Floats]:
    """The cluster of each of `boxes_xyxy [M, 4]`, best first; and the fused boxes `[N, 4]`.

    Every box moves the one it joins, and so decides about the next: the order is part of the
    method. Each is compared with all fused boxes at once.
    """
    cluster = np.empty(len(boxes_xyxy), np.int64)
    # Σ score · box and Σ score of each cluster: the fused box is their quotient
    sums, weights = np.zeros((len(boxes_xyxy), 4)), np.zeros(len(boxes_xyxy))
    fused, of_class = np.zeros_like(sums), np.full(len(boxes_xyxy), -1)
    count = 0
    for place, (box, score, label) in enumerate(zip(boxes_xyxy, scores, labels, strict=True)):
        overlap = box_iou(fused[:count], box[None])[:, 0]
        overlap[of_class[:count] != label] = -1
        best = int(overlap.argmax()) if count else 0
        if not count or overlap[best] <= iou_threshold:
            best, count = count, count + 1
            of_class[best] = label
        sums[best] += score * box
        weights[best] += score
        fused[best] = sums[best] / weights[best]
        cluster[place] = best
    return cluster, fused[:count]
