"""Which of two detectors is better, and whether the test images can tell.

The paired bootstrap over images (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993,
chapters 8 and 13): images are drawn with replacement, both detectors are counted on the same draw,
and the middle 95 % of the differences are the interval. An image that is hard for both moves both,
so the interval of the difference is much narrower than those of the two AP would suggest.

It answers for the choice of the test images, not for the luck of one training run: for that, train
with several seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flyweight.core.errors import InputError
from flyweight.evaluation.coco_ap import EvaluationResult, average_precision
from flyweight.evaluation.evaluate import detect
from flyweight.evaluation.matches import IOU_THRESHOLDS, Floats, match
from flyweight.evaluation.recount import Recount

if TYPE_CHECKING:
    from flyweight.core.detections import Detections, Predictor
    from flyweight.data.records import DetectionDataset

# M models, B resamples, T IoU thresholds

CONFIDENCE = 0.95
RESAMPLES = 1000
# the percentile interval of fewer images than this is too narrow to be trusted
FEW_IMAGES = 30
FIGURES = ("AP", "AP50", "AP75")
# resamples that are counted at once, so that a large test set does not fill the memory
CHUNK = 128


@dataclass(frozen=True)
class Interval:
    """A difference and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """What a model has more than the first one, in AP (0 to 1); negative if it has less."""

    AP: Interval
    AP50: Interval
    AP75: Interval

    @property
    def more_than_chance(self) -> bool:
        """Whether the interval of AP leaves out zero."""
        return self.AP.low > 0 or self.AP.high < 0

    def to_dict(self) -> dict[str, dict[str, float]]:
        """`{"AP": {"value", "low", "high"}, "AP50": ..., "AP75": ...}`."""
        return {name: dict(vars(getattr(self, name))) for name in FIGURES}


@dataclass(frozen=True)
class Comparison:
    """Several models on the same images.

    Attributes:
        results: of every model.
        differences: of every model but the first, against the first.
        resamples: how many draws the intervals come from.
    """

    results: tuple[EvaluationResult, ...]
    differences: tuple[Difference, ...]
    resamples: int

    def verdict(self, names: Sequence[str], place: int = 1) -> str:
        """One sentence on model `place` against the first; `names` are those of all models."""
        difference = self.differences[place - 1]
        gain, images = difference.AP, self.results[0].images
        interval = f"95 % interval {gain.low:+.3f} to {gain.high:+.3f}"
        few = f"; {images} images are few, so the interval is rough" if images < FEW_IMAGES else ""
        if difference.more_than_chance:
            word = "better" if gain.value > 0 else "worse"
            return (
                f"{names[place]} is {word} than {names[0]} by {abs(gain.value):.3f} AP: more than "
                f"chance over the images ({interval}{few})."
            )
        return (
            f"The difference of {gain.value:+.3f} AP between {names[place]} and {names[0]} may be "
            f"chance ({interval}{few}): these {images} images do not tell which is better."
        )


def compare(
    predictors: Sequence[Predictor],
    dataset: DetectionDataset,
    *,
    batch_size: int = 16,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare predictors on `dataset`, each with the first; see `compare_detections`."""
    found = [
        detect(predictor, dataset, batch_size=batch_size, progress=progress)
        for predictor in predictors
    ]
    return compare_detections(dataset, found, resamples=resamples, seed=seed)


def compare_detections(
    dataset: DetectionDataset,
    found: Sequence[Sequence[Detections]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare what several models found, each with the first.

    Args:
        found: of each model one `Detections` a record, boxes float32 xyxy `[N, 4]` in pixels of
            the original image, labels those of `dataset`.
        resamples: draws of the bootstrap; 1,000 steady the ends of the interval to about a tenth
            of its width.
        seed: of the draws; the same seed gives the same interval.

    Raises:
        InputError: no object is labelled, so there is no AP to compare.
    """
    if len(found) < 2:
        raise ValueError(f"{len(found)} models: a comparison needs two")
    results = tuple(average_precision(dataset, each) for each in found)
    if results[0].AP is None:
        raise InputError(
            "no object is labelled, so there is nothing to compare",
            where=f"{dataset.root}, {dataset.split}",
        )
    figures = _resampled_figures(dataset, found, resamples=resamples, seed=seed)
    return Comparison(
        results=results,
        differences=tuple(
            _difference(results[0], result, drawn - figures[0])
            for result, drawn in zip(results[1:], figures[1:], strict=True)
        ),
        resamples=resamples,
    )


def _resampled_figures(
    dataset: DetectionDataset, found: Sequence[Sequence[Detections]], *, resamples: int, seed: int
) -> Floats:
    """AP, AP50 and AP75 `[M, B, 3]` of every model on the same resamples of the images."""
    recounts = [Recount(match(dataset, each)) for each in found]
    rng = np.random.default_rng(seed)
    images = len(dataset)
    parts = []
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        weights = rng.multinomial(images, np.full(images, 1 / images), size=size)
        parts.append(np.stack([recount.average_precision(weights) for recount in recounts]))
    by_threshold = np.concatenate(parts, axis=1)  # [M, B, T]
    at_75 = int(np.abs(IOU_THRESHOLDS - 0.75).argmin())
    return np.stack(
        [by_threshold.mean(axis=-1), by_threshold[..., 0], by_threshold[..., at_75]], axis=-1
    )


def _difference(first: EvaluationResult, other: EvaluationResult, drawn: Floats) -> Difference:
    """The difference of two results; `drawn [B, 3]` are those of the resamples."""
    # a draw without any object has no AP
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(drawn, (tail, 100 - tail), axis=0)
    intervals: dict[str, Any] = {
        name: Interval(getattr(other, name) - getattr(first, name), float(low[n]), float(high[n]))
        for n, name in enumerate(FIGURES)
    }
    return Difference(**intervals)
