"""Fused boxes as labels: believed, uncertain or dropped; and the COCO file that says where from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import xyxy_to_xywh
from flyweight.core.files import write_atomically
from flyweight.labeling.shards import LabelledImage
from flyweight.labeling.thresholds import ClassThreshold
from flyweight.labeling.weighted_box_fusion import FusedBoxes

# N fused boxes of a picture, C classes, T teachers

Flags = npt.NDArray[np.bool_]


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
    """

    objects: npt.NDArray[np.int64]
    uncertain: npt.NDArray[np.int64]
    images: int = 0
    empty: int = 0
    missing: list[dict[str, str]] = field(default_factory=list)


def write_coco(
    path: Path,
    pictures: Callable[[], Iterable[LabelledImage]],
    thresholds: Sequence[ClassThreshold],
    teachers_of: Callable[[Flags], Flags],
    *,
    teachers: Sequence[str],
    info: dict[str, Any],
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
            yield {
                "id": counts.images, "file_name": picture.name, "width": width, "height": height,
            }  # fmt: skip

    def annotations() -> Iterator[dict[str, Any]]:
        readable = (picture for picture in pictures() if picture.problem is None)
        number = 0
        for image_id, picture in enumerate(readable, start=1):
            kept, uncertain = sort_out(picture.boxes, thresholds)
            labels = picture.boxes.detections.labels
            counts.objects += np.bincount(labels[kept], minlength=classes)
            counts.uncertain += np.bincount(labels[uncertain], minlength=classes)
            counts.empty += not kept.any()
            by_teacher = teachers_of(picture.boxes.found_by)
            for row in np.flatnonzero(kept | uncertain).tolist():
                number += 1
                names = [teachers[place] for place in np.flatnonzero(by_teacher[row]).tolist()]
                identity = {"id": number, "image_id": image_id}
                yield identity | _annotation(picture.boxes, row, names, bool(uncertain[row]))

    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f'{{"info": {_json(info)},\n"categories": {_json(categories)},\n"images": [')
        _write_list(file, images())
        file.write('],\n"annotations": [')
        _write_list(file, annotations())
        file.write("]}\n")
    return counts


def _annotation(
    boxes: FusedBoxes, row: int, teachers: Sequence[str], uncertain: bool
) -> dict[str, Any]:
    found = boxes.detections
    box_xywh = xyxy_to_xywh(found.boxes_xyxy[row].astype(np.float64)).round(2).tolist()
    return {
        "category_id": int(found.labels[row]) + 1,
        "bbox": box_xywh,
        "area": round(box_xywh[2] * box_xywh[3], 2),
        "iscrowd": int(uncertain),
        **({"uncertain": 1} if uncertain else {}),
        "score": round(float(found.scores[row]), 5),
        "votes": int(boxes.votes[row]),
        "teachers": list(teachers),
    }


def _write_list(file: TextIO, entries: Iterable[dict[str, Any]]) -> None:
    separator = "\n"
    for entry in entries:
        file.write(separator + _json(entry))
        separator = ",\n"


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False)
