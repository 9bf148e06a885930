"""From which score on a teacher's boxes of a class are believed.

Radosavovic et al. 2018, "Data Distillation" (arXiv 1712.04440): as many predicted objects an image
as labelled ones. Here it is each class's own. Predictions are counted on labelled images, where
precision and recall of the threshold are seen as well, or, as in the paper, on the pictures to be
labelled, which needs no labels that the teacher has not learnt from. The alternative is the lowest
threshold of the precision one asks for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.evaluation.matches import counted_objects, match

if TYPE_CHECKING:
    from flyweight.core.detections import Detections
    from flyweight.data.records import DetectionDataset

# D detections of a class (or of all), best first; C classes

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

IOU = 0.5
LEAST_OBJECTS = 10
UNCERTAIN = 0.5


@dataclass(frozen=True)
class ClassThreshold:
    """What becomes of the boxes of a class.

    Attributes:
        name: of the class.
        upper: boxes of this score or more are labels; infinite where the precision that was asked
            for is never reached.
        lower: boxes from this score on are ignored in training, neither objects nor background.
        objects: of the class on the labelled slice.
        predicted: boxes there that `upper` keeps.
        precision: share of these that are right (IoU 0.5); NaN without any.
        recall: share of the objects that they find; NaN without any.
        pooled: the class has too few objects: the threshold is that of all classes together.
    """

    name: str
    upper: float
    lower: float
    objects: int
    predicted: int
    precision: float
    recall: float
    pooled: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON: six digits, None where a figure is not finite."""
        return {name: _plain(value) for name, value in vars(self).items()}


def calibrate(
    dataset: DetectionDataset,
    detections: Sequence[Detections],
    *,
    precision: float | None = None,
    uncertain: float = UNCERTAIN,
    least_objects: int = LEAST_OBJECTS,
) -> tuple[ClassThreshold, ...]:
    """The thresholds of each class, in the order of the data's.

    A class with fewer objects than `least_objects` would have a threshold by chance: it takes the
    one that all classes have together.

    Args:
        dataset: the labelled slice; crowds and difficult objects do not count.
        detections: of each of its records, float32 xyxy pixels, low scores too.
        precision: 0 to 1, keep this share of right boxes; None matches the number of objects.
        uncertain: `lower` is this share of `upper`; 1 leaves nothing uncertain.
        least_objects: that a class needs for a threshold of its own.

    Raises:
        InputError: the slice has too few objects in all, or a share is out of range.
    """
    check_shares(precision, uncertain)
    matches = match(dataset, detections, iou_thresholds=np.array([IOU]))
    objects = matches.objects.sum(axis=0)
    _check_objects(dataset, int(objects.sum()), least_objects)
    counted = ~matches.ignored[0]
    label, score, hit = matches.label[counted], matches.score[counted], matches.hit[0][counted]
    together = _cut(score, hit, int(objects.sum()), precision)
    thresholds = []
    for number, name in enumerate(dataset.class_names):
        own = label == number
        count = int(objects[number])
        pooled = count < least_objects
        upper = together if pooled else _cut(score[own], hit[own], count, precision)
        kept = own & (score >= upper)
        right = int((kept & hit).sum())
        thresholds.append(
            ClassThreshold(
                name=name,
                upper=upper,
                lower=uncertain * upper if math.isfinite(upper) else 0.0,
                objects=count,
                predicted=int(kept.sum()),
                precision=right / kept.sum() if kept.any() else math.nan,
                recall=right / count if count else math.nan,
                pooled=pooled,
            )
        )
    return tuple(thresholds)


def calibrate_on_pictures(
    dataset: DetectionDataset,
    found: Iterable[Detections],
    *,
    uncertain: float = UNCERTAIN,
    least_objects: int = LEAST_OBJECTS,
) -> tuple[ClassThreshold, ...]:
    """The thresholds that leave as many labels a picture as `dataset` has objects an image.

    Nobody knows here which boxes are right: precision and recall are NaN, and `predicted` counts
    boxes of the pictures.

    Args:
        dataset: labelled images, also such as the teacher has learnt from; crowds and difficult
            objects do not count.
        found: of each picture to be labelled, float32 xyxy pixels, low scores too.
        uncertain, least_objects: as of `calibrate`.

    Raises:
        InputError: `dataset` has too few objects in all, or a share is out of range.
    """
    check_shares(None, uncertain)
    classes = len(dataset.class_names)
    objects = np.zeros(classes, np.int64)
    for record in dataset.records:
        objects += np.bincount(record.labels[counted_objects(record)], minlength=classes)
    _check_objects(dataset, int(objects.sum()), least_objects)
    pictures = 0
    scores: list[list[Floats]] = [[np.zeros(0)] for _ in range(classes)]
    for each in found:
        pictures += 1
        for label in np.unique(each.labels).tolist():
            scores[label].append(each.scores[each.labels == label].astype(np.float64))
    best_first = [-np.sort(-np.concatenate(own)) for own in scores]
    wanted = objects * pictures / len(dataset)
    together = count_threshold(-np.sort(-np.concatenate(best_first)), round(wanted.sum()))
    thresholds = []
    for number, name in enumerate(dataset.class_names):
        pooled = objects[number] < least_objects
        upper = together if pooled else count_threshold(best_first[number], round(wanted[number]))
        thresholds.append(
            ClassThreshold(
                name=name,
                upper=upper,
                lower=uncertain * upper if math.isfinite(upper) else 0.0,
                objects=int(objects[number]),
                predicted=int((best_first[number] >= upper).sum()),
                precision=math.nan,
                recall=math.nan,
                pooled=bool(pooled),
            )
        )
    return tuple(thresholds)


def _check_objects(dataset: DetectionDataset, objects: int, least_objects: int) -> None:
    if objects < least_objects:
        raise InputError(
            f"{objects} labelled objects are too few to calibrate thresholds on",
            where=dataset.root,
            fix=f"give a split with {least_objects} or more",
        )


def _plain(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(value, 6) if math.isfinite(value) else None


def check_shares(precision: float | None, uncertain: float) -> None:
    """Raise an InputError where a share of `calibrate` is out of range."""
    if precision is not None and not 0 < precision <= 1:
        raise InputError(f"a precision of {precision}", fix="give a share above 0, up to 1")
    if not 0 <= uncertain <= 1:
        raise InputError(f"uncertain is {uncertain}", fix="give a share of the threshold, 0 to 1")


def _cut(score: Floats, hit: Flags, objects: int, precision: float | None) -> float:
    """The threshold of detections `[D]` whose class has so many objects."""
    order = np.argsort(-score, kind="stable")
    score, hit = score[order], hit[order]
    if precision is None:
        return count_threshold(score, objects)
    return precision_threshold(score, hit, precision)


def count_threshold(score: Floats, count: int) -> float:
    """The threshold that `count` of the scores `[D]`, best first, reach: half way to the next one.

    With no more scores than that all are kept; equal ones stay together.
    """
    if not len(score) or count < 1:
        return math.inf
    if len(score) <= count:
        return float(score[-1])
    return float(score[count - 1] + score[count]) / 2


def precision_threshold(score: Floats, hit: Flags, precision: float) -> float:
    """The lowest threshold whose share of hits is `precision` at least; infinite without any.

    `score` and `hit` `[D]`, best first.
    """
    share = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    # a threshold cannot part equal scores
    last = np.append(score[1:] < score[:-1], True)[: len(score)]
    possible = np.flatnonzero(last & (share >= precision))
    return count_threshold(score, int(possible[-1]) + 1) if len(possible) else math.inf
