"""Which boxes and pictures a person should look at first: uncertainty sampling.

Lewis & Gale 1994, "A Sequential Algorithm for Training Text Classifiers", section 3 (arXiv
cmp-lg/9407020); of an image's boxes the least certain counts, the aggregation "maximum" of Brust
et al. 2019, "Active Learning for Deep Object Detection" (arXiv 1809.09875).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Annotation = dict[str, Any]

# Of a class that nobody calibrated: a data set from elsewhere.
UNKNOWN_THRESHOLD = 0.5
# A threshold that no score reaches stands as null in the file.
NEVER = 1.0
CERTAIN = 1.0


def margin(annotation: Annotation, threshold_of: Mapping[int, float]) -> float:
    """How far a box' score lies from its class' threshold, 0 to 1: the less, the less certain.

    Boxes without a score, and those that a person has decided on, are certain.
    """
    score = annotation.get("score")
    if "reviewed" in annotation or not isinstance(score, int | float):
        return CERTAIN
    threshold = threshold_of.get(annotation["category_id"], UNKNOWN_THRESHOLD)
    return min(CERTAIN, abs(score - threshold))


def thresholds_by_category(info: Any, categories: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Category id → the score from which boxes are labels, of a file's `info` and `categories`."""
    listed = info.get("thresholds") if isinstance(info, dict) else None
    upper_of = {
        each.get("name"): NEVER if each.get("upper") is None else float(each["upper"])
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict)
    }
    return {each["id"]: upper_of.get(each["name"], UNKNOWN_THRESHOLD) for each in categories}


def by_doubt(
    pictures: Sequence[Sequence[Annotation]], threshold_of: Mapping[int, float]
) -> list[int]:
    """Places of `pictures` (the boxes of each), that with the least certain box first.

    Equal ones, such as pictures without any uncertain box, keep their order.
    """
    margins = [
        sorted(margin(each, threshold_of) for each in annotations) for annotations in pictures
    ]
    # compared box by box; one that has run out of boxes is the more certain
    return sorted(range(len(pictures)), key=lambda place: [*margins[place], CERTAIN])
