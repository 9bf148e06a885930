"""Why detections are wrong, and what each kind of error costs.

The six kinds and their oracles are those of TIDE (Bolya et al., "TIDE: A General Toolbox for
Identifying Object Detection Errors", ECCV 2020, sections 2.2 and 2.3). With the foreground IoU 0.5
and the background IoU 0.1, a false positive is, the first that holds:

- localisation: an object of its class overlaps it by 0.1 to 0.5;
- classification: an object of another class overlaps it by 0.5 or more;
- duplicate: an object of its class overlaps it by 0.5 or more, but a better scored one took it;
- both: an object of another class overlaps it by 0.1 to 0.5;
- background: nothing overlaps it by 0.1.

An object without a hit is missed, unless a localisation or classification error is about it:
mending that error finds it. The paper leaves the order open; this is its reference code's.

How many errors there are misleads, since most have scores so low that they cost nothing. So each
kind has a gain: how much AP50 rises when an oracle mends this kind and no other. It gives the box
or the class that was meant (all but the best scored such detection of an object are taken away,
as only one can hit it), takes away what is both, duplicate or background, and no longer asks for
missed objects (a class of which nothing is left to find counts as perfect).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from flyweight.evaluation.matches import (
    Flags,
    Floats,
    Integers,
    Matches,
    counted_objects,
    match,
    overlaps,
)
from flyweight.evaluation.recount import Recount

if TYPE_CHECKING:
    from flyweight.core.detections import Detections
    from flyweight.data.records import DetectionDataset, Record

# I images, D detections (of one image or of all), G objects of one image, M missed objects

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1
FALSE_POSITIVES = ("localisation", "classification", "duplicate", "both", "background")
MISSED = "missed"
KINDS = (*FALSE_POSITIVES, MISSED)
# those that an oracle turns into hits, so that their object counts as covered
MENDED = ("localisation", "classification")


@dataclass(frozen=True, eq=False)
class DetectionErrors:
    """The errors of a data set's detections at IoU 0.5.

    Attributes:
        matches: the detections, of one IoU threshold.
        kind: `[D]` place in `FALSE_POSITIVES`; -1 for a hit and for what is neither.
        cause: `[D]` row in the record of the object that it hits, or that the error is about;
            -1 for background.
        missed: `[M, 2]` image and row in its record of each missed object.
        AP50: as it is; None without any object.
        gains: how much AP50 would rise without this kind, by name in the order of `KINDS`.
        class_gains: the same for the AP50 of each class, `[C]`, NaN for one without objects.
    """

    matches: Matches
    kind: Integers
    cause: Integers
    missed: Integers
    AP50: float | None
    gains: dict[str, float]
    class_gains: dict[str, Floats]

    def of(self, kind: str, *, score: float = 0.0) -> Integers:
        """The false positives of a kind with at least `score`, as places in `matches`.

        Those come first that cost their class most: AP reads the detections of a class from the
        best score down, so an error counts by how many precede it, for as many objects as the
        class has. A class without objects costs nothing.
        """
        matches = self.matches
        found = self.kind == FALSE_POSITIVES.index(kind)
        (places,) = np.nonzero(found & (matches.score >= score))
        order = np.lexsort((-matches.score, matches.label))
        grouped = matches.label[order]
        rank = np.empty(len(order))
        rank[order] = np.arange(len(order)) - np.searchsorted(grouped, grouped)
        objects = matches.objects.sum(axis=0)[matches.label[places]]
        share = np.divide(
            rank[places], objects, out=np.full(len(places), np.inf), where=objects > 0
        )
        return places[np.lexsort((-matches.score[places], share))]

    def count(self, kind: str, *, score: float = 0.0) -> int:
        """How many errors of a kind there are; missed objects are those that no score finds."""
        return len(self.missed) if kind == MISSED else len(self.of(kind, score=score))

    def image_cost(self, score: float) -> Floats:
        """`[I]` how wrong each image is for somebody who uses the threshold `score`.

        Each object without a hit of that score costs 1, each false positive its score.
        """
        matches = self.matches
        images = len(matches.objects)
        kept = matches.score >= score
        false = kept & (self.kind >= 0)
        hits = np.bincount(matches.image[kept & matches.hit[0]], minlength=images)
        alarms = np.bincount(matches.image[false], weights=matches.score[false], minlength=images)
        return matches.objects.sum(axis=1) - hits + alarms


def find_errors(dataset: DetectionDataset, detections: Sequence[Detections]) -> DetectionErrors:
    """Name the errors of `detections`, one entry a record of `dataset` (one image or more).

    Boxes of both are float32 xyxy `[N, 4]` in pixels of the original image; labels of both index
    `dataset.class_names`.
    """
    matches = match(dataset, detections, iou_thresholds=np.array([FOREGROUND_IOU]))
    parts, missed = [], []
    ends = np.searchsorted(matches.image, np.arange(len(dataset) + 1))
    for image, (record, found) in enumerate(zip(dataset.records, detections, strict=True)):
        rows = slice(ends[image], ends[image + 1])
        hit, wrong = matches.hit[0, rows], matches.target[0, rows] < 0
        kind, cause = _false_positives(record, found, matches.place[rows])
        kind = np.where(wrong, kind, -1)
        cause = np.where(wrong, cause, matches.target[0, rows])
        parts.append((kind, cause))
        mended = np.isin(kind, [FALSE_POSITIVES.index(name) for name in MENDED])
        left = counted_objects(record)
        left[cause[hit | mended]] = False
        missed += [(image, row) for row in np.flatnonzero(left).tolist()]
    before = _ap50_by_class(matches)
    errors = DetectionErrors(
        matches=matches,
        kind=np.concatenate([kind for kind, _ in parts]),
        cause=np.concatenate([cause for _, cause in parts]),
        missed=np.array(missed, dtype=np.int64).reshape(-1, 2),
        AP50=None if np.isnan(before).all() else float(np.nanmean(before)),
        gains={},
        class_gains={},
    )
    if errors.AP50 is None:
        return errors
    # a class of which nothing is left to find is NaN
    class_gains = {
        kind: np.nan_to_num(_ap50_by_class(_mend(errors, dataset, kind)), nan=1.0) - before
        for kind in KINDS
    }
    # fewer objects move the 101 recall points, which can cost a hair more than was mended
    gains = {kind: max(0.0, float(np.nanmean(gain))) for kind, gain in class_gains.items()}
    return replace(errors, gains=gains, class_gains=class_gains)


def _false_positives(
    record: Record, found: Detections, place: Integers
) -> tuple[Integers, Integers]:
    """Kind and cause `[D]` of the detections at `place [D]`, as if none of them were a hit."""
    counts = counted_objects(record)
    rows = np.append(np.flatnonzero(counts), -1)
    overlap = overlaps(record, found, place)[:, counts]
    same_class = found.labels[place][:, None] == record.labels[counts]
    same, same_row = _best(np.where(same_class, overlap, 0))
    other, other_row = _best(np.where(same_class, 0, overlap))
    # in the order of FALSE_POSITIVES, see the top of the file; background is what remains
    tests = [
        (same >= BACKGROUND_IOU) & (same < FOREGROUND_IOU),
        other >= FOREGROUND_IOU,
        same >= FOREGROUND_IOU,
        other >= BACKGROUND_IOU,
    ]
    background = np.full(len(place), -1)
    causes = [rows[row] for row in (same_row, other_row, same_row, other_row)]
    return (
        np.select(tests, range(len(tests)), default=FALSE_POSITIVES.index("background")),
        np.select(tests, causes, default=background),
    )


def _best(overlap: Floats) -> tuple[Floats, Integers]:
    """The largest of each row of `[D, G]` and where it is; 0 and -1 without any object."""
    if not overlap.shape[1]:
        return np.zeros(len(overlap)), np.full(len(overlap), -1)
    return overlap.max(axis=1), overlap.argmax(axis=1)


def _ap50_by_class(matches: Matches) -> Floats:
    """`[C]`, NaN for a class without objects."""
    by_class: Floats = Recount(matches).by_class()[0, 0]
    return by_class


def _mend(errors: DetectionErrors, dataset: DetectionDataset, kind: str) -> Matches:
    """The matches after the oracle of one kind."""
    matches = errors.matches
    if kind == MISSED:
        objects = matches.objects.copy()
        labels = [dataset[image].labels[row] for image, row in errors.missed.tolist()]
        np.subtract.at(objects, (errors.missed[:, 0], np.array(labels, dtype=np.int64)), 1)
        return replace(matches, objects=objects)
    wrong = errors.kind == FALSE_POSITIVES.index(kind)
    label, target = matches.label.copy(), matches.target.copy()
    ignored = matches.ignored | wrong
    if kind in MENDED:
        hits = _first_of_each_object(errors, wrong)
        images, rows = matches.image[hits].tolist(), errors.cause[hits].tolist()
        label[hits] = [dataset[i].labels[row] for i, row in zip(images, rows, strict=True)]
        target[0, hits] = rows
        ignored[0, hits] = False
    return replace(matches, label=label, target=target, ignored=ignored)


def _first_of_each_object(errors: DetectionErrors, wrong: Flags) -> Integers:
    """Places of the best scored of the `wrong [D]` detections of each object without a hit."""
    matches = errors.matches
    hit = matches.hit[0]
    pairs = np.stack([matches.image, errors.cause], axis=1)
    (candidates,) = np.nonzero(wrong | hit)
    # within an image the best score comes first; a hit goes before any error
    candidates = candidates[np.argsort(~hit[candidates], kind="stable")]
    _, first = np.unique(pairs[candidates], axis=0, return_index=True)
    chosen = candidates[first]
    return chosen[wrong[chosen]]
