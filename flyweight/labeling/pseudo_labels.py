"""Fused boxes as labels: believed, uncertain or dropped; and the COCO file that says where from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import xyxy_to_xywh
from flyweight.labeling.coco_lines import write_coco_lines
from flyweight.labeling.review_merge import ReviewedPicture
from flyweight.labeling.shards import LabelledImage
from flyweight.labeling.thresholds import ClassThreshold
from flyweight.labeling.weighted_box_fusion import FusedBoxes

# N fused boxes of a picture, C classes, T teachers

Flags = npt.NDArray[np.bool_]
NOTHING: Mapping[str, ReviewedPicture] = MappingProxyType({})


def sort_out(boxes: FusedBoxes, thresholds: Sequence[ClassThreshold]) -> tuple[Flags, Flags]:
    """bool `[N]` each: which boxes are labels, and which ignore regions; the others are dropped."""
    upper = np.array([each.upper for each in thresholds])
    lower = np.array([each.lower for each in thresholds])
    found = boxes.detections
    kept = found.scores >= upper[found.labels]
    return kept, ~kept & (found.scores >= lower[found.labels])


@dataclass
class LabelCounts:
    """What was written.

    Attributes:
        images: with or without labels.
        empty: of these, without labels.
        missing: name and reason of pictures that could not be read.
        objects: `[C]` labels of each class.
        uncertain: `[C]` ignore regions of each class.
        reviewed: pictures that a person has looked at: their labels are kept.
    """

    objects: npt.NDArray[np.int64]
    uncertain: npt.NDArray[np.int64]
    images: int = 0
    empty: int = 0
    reviewed: int = 0
    missing: list[dict[str, str]] = field(default_factory=list)


def write_coco(
    path: Path,
    pictures: Callable[[], Iterable[LabelledImage]],
    thresholds: Sequence[ClassThreshold],
    teachers_of: Callable[[Flags], Flags],
    *,
    teachers: Sequence[str],
    info: dict[str, Any],
    reviewed: Mapping[str, ReviewedPicture] = NOTHING,
) -> LabelCounts:
    """Write labels as COCO, a picture at a time.

    Beside COCO's keys every annotation has `score`, `votes` (how many sources found it) and
    `teachers` (their names). Ignore regions are crowds (`iscrowd` 1), which training and
    evaluation pass over, with `uncertain` 1 to tell them from others.

    Args:
        pictures: gives them anew for each of the two passes.
        thresholds: of all classes, in the order of the labels.
        teachers_of: from the sources of boxes to their teachers, bool `[N, S]` to `[N, T]`.
        teachers: names `[T]`.
        info: goes under `info`.
        reviewed: name → what a person has made of the labels of this picture; kept as it is.

    Raises:
        InputError: the disk is full.
    """
    classes = len(thresholds)
    counts = LabelCounts(np.zeros(classes, np.int64), np.zeros(classes, np.int64))
    categories = [{"id": n, "name": each.name} for n, each in enumerate(thresholds, start=1)]

    def images() -> Iterator[dict[str, Any]]:
        for picture in pictures():
            if picture.problem is not None:
                counts.missing.append({"name": picture.name, "reason": picture.problem})
                continue
            counts.images += 1
            height, width = picture.size_hw
            mark = {"reviewed": reviewed[picture.name].mark} if picture.name in reviewed else {}
            counts.reviewed += bool(mark)
            yield {
                "id": counts.images, "file_name": picture.name, "width": width, "height": height,
                **mark,
            }  # fmt: skip

    def annotations() -> Iterator[dict[str, Any]]:
        readable = (picture for picture in pictures() if picture.problem is None)
        numbers = itertools.count(1)
        for image_id, picture in enumerate(readable, start=1):
            if picture.name in reviewed:
                labels: Iterable[dict[str, Any]] = reviewed[picture.name].annotations
            else:
                labels = _annotations(picture.boxes, thresholds, teachers_of, teachers)
            empty = True
            for label in labels:
                count = counts.uncertain if label["iscrowd"] else counts.objects
                count[label["category_id"] - 1] += 1
                empty = empty and bool(label["iscrowd"])
                yield label | {"id": next(numbers), "image_id": image_id}
            counts.empty += empty

    head = {"info": info, "categories": categories}
    write_coco_lines(path, head, images=images(), annotations=annotations())
    return counts


def _annotations(
    boxes: FusedBoxes,
    thresholds: Sequence[ClassThreshold],
    teachers_of: Callable[[Flags], Flags],
    teachers: Sequence[str],
) -> Iterator[dict[str, Any]]:
    kept, uncertain = sort_out(boxes, thresholds)
    by_teacher = teachers_of(boxes.found_by)
    for row in np.flatnonzero(kept | uncertain).tolist():
        names = [teachers[place] for place in np.flatnonzero(by_teacher[row]).tolist()]
        yield _annotation(boxes, row, names, bool(uncertain[row]))


def _annotation(
    boxes: FusedBoxes, row: int, teachers: Sequence[str], uncertain: bool
) -> dict[str, Any]:
    found = boxes.detections
    box_xywh = xyxy_to_xywh(found.boxes_xyxy[row].astype(np.float64)).round(2).tolist()
    return {
        # set when it is written; first, as everybody has them
        "id": 0,
        "image_id": 0,
        "category_id": int(found.labels[row]) + 1,
        "bbox": box_xywh,
        "area": round(box_xywh[2] * box_xywh[3], 2),
        "iscrowd": int(uncertain),
        **({"uncertain": 1} if uncertain else {}),
        "score": round(float(found.scores[row]), 5),
        "votes": int(boxes.votes[row]),
        "teachers": list(teachers),
    }
