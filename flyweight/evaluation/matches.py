"""Which detection hits which object: COCO's greedy matching, image by image, kept as arrays.

The rule is that of COCO's reference code (Lin et al. 2014, `COCOeval.evaluateImg`), all sizes, at
most 100 detections an image and class. faster-coco-eval counts with the same rule (`coco_ap.py`),
but its matches stay inside its C++ part; what weighs images anew (`recount.py`) or asks why a
detection is wrong (`detection_errors.py`) needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flyweight.evaluation.coco_ap import MAX_DETECTIONS_PER_IMAGE, xywh_and_areas

if TYPE_CHECKING:
    from flyweight.core.detections import Detections
    from flyweight.data.records import DetectionDataset, Record

# I images, C classes, T IoU thresholds, D detections (of one image or all), G objects of an image

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Matches:
    """All counted detections of a data set, image after image, best score first in each.

    Attributes:
        image: `[D]` place of the record in the data set.
        place: `[D]` place in that image's `Detections`.
        label: `[D]` class.
        score: `[D]`.
        target: `[T, D]` the matched object's row in the record; -1 where there is none.
        ignored: `[T, D]` neither hit nor miss: the match is a crowd or a difficult object.
        objects: `[I, C]` how many objects count, neither crowd nor difficult.
    """

    image: Integers
    place: Integers
    label: Integers
    score: Floats
    target: Integers
    ignored: Flags
    objects: Integers

    @property
    def hit(self) -> Flags:
        """`[T, D]` true positives."""
        return (self.target >= 0) & ~self.ignored


def match(
    dataset: DetectionDataset,
    detections: Sequence[Detections],
    *,
    iou_thresholds: Floats = IOU_THRESHOLDS,
) -> Matches:
    """Match `detections`, one entry a record, with the objects of `dataset` (one image or more).

    Boxes of both are float32 xyxy `[N, 4]` in pixels of the original image.
    """
    objects = np.zeros((len(dataset), len(dataset.class_names)), dtype=np.int64)
    places, targets, ignored = [], [], []
    for image, (record, found) in enumerate(zip(dataset.records, detections, strict=True)):
        counts = counted_objects(record)
        np.add.at(objects[image], record.labels[counts], 1)
        place = counted_detections(found)
        overlap = overlaps(record, found, place)
        overlap[found.labels[place][:, None] != record.labels] = -1
        target = _assign(overlap, counts, iou_thresholds)
        places.append(place)
        targets.append(target)
        # the flag of no object at all, which -1 reads, is that nothing is ignored
        ignored.append(np.append(~counts, False)[target])
    kept = list(zip(detections, places, strict=True))
    return Matches(
        image=np.repeat(np.arange(len(dataset)), [len(place) for place in places]),
        place=np.concatenate(places),
        label=np.concatenate([found.labels[place] for found, place in kept]),
        score=np.concatenate([found.scores[place] for found, place in kept]).astype(np.float64),
        target=np.concatenate(targets, axis=1),
        ignored=np.concatenate(ignored, axis=1),
        objects=objects,
    )


def counted_objects(record: Record) -> Flags:
    """`[G]` the objects that a detector has to find: neither crowd nor difficult."""
    ignored = np.asarray(record.crowd, dtype=bool) | np.asarray(record.difficult, dtype=bool)
    return ~ignored


def counted_detections(found: Detections) -> Integers:
    """`[D]` places of the detections that are counted: the 100 best of each class."""
    kept = np.flatnonzero(np.isfinite(found.scores))
    labels = found.labels[kept]
    order = np.argsort(labels, kind="stable")
    grouped = labels[order]
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - np.searchsorted(grouped, grouped)
    return kept[rank < MAX_DETECTIONS_PER_IMAGE]


def overlaps(record: Record, found: Detections, place: Integers) -> Floats:
    """IoU `[D, G]` of the detections at `place [D]` with all objects of the image.

    With a crowd it is the intersection over the detection's own area.
    """
    # Imported here: `import flyweight` and the predictor need no evaluator.
    from faster_coco_eval.core import mask

    if not len(place) or not len(record):
        return np.zeros((len(place), len(record)))
    found_xywh, _ = xywh_and_areas(found.boxes_xyxy[place])
    truth_xywh, _ = xywh_and_areas(record.boxes_xyxy)
    crowd = np.asarray(record.crowd, dtype=int).tolist()
    return np.asarray(mask.iou(found_xywh, truth_xywh, crowd), dtype=np.float64)


def _assign(overlap: Floats, counts: Flags, iou_thresholds: Floats) -> Integers:
    """`[T, D]` the object that each detection takes, -1 for none; best score first.

    Args:
        overlap: `[D, G]`, negative where the classes differ.
        counts: `[G]`; an object that counts is taken once, any other as often as it is met.
    """
    target = np.full((len(iou_thresholds), len(overlap)), -1, dtype=np.int64)
    if not overlap.size:
        return target
    needed = np.minimum(iou_thresholds, 1 - 1e-10)[:, None]
    free = np.ones((len(needed), len(counts)), dtype=bool)
    last = len(counts) - 1
    for row in np.flatnonzero(overlap.max(axis=1) >= needed.min()):
        possible = free & (overlap[row] >= needed)
        # an object that counts goes before any other, however well that one fits
        preferred = possible & counts
        possible = np.where(preferred.any(axis=1, keepdims=True), preferred, possible)
        # of equal overlaps the reference code takes the last
        chosen = last - np.where(possible, overlap[row], -1.0)[:, ::-1].argmax(axis=1)
        (matched,) = np.nonzero(possible.any(axis=1))
        target[matched, row] = chosen[matched]
        free[matched, chosen[matched]] = ~counts[chosen[matched]]
    return target
