"""The objects of a detection data set as images of their classes, and pieces of what is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from flyweight.core.boxes import box_area, box_intersection
from flyweight.data.records import DetectionDataset, Record

# G objects of one picture, N objects of all

BACKGROUND = "background"
# Smaller objects are a handful of pixels: enlarged, they teach nothing but blur.
SMALLEST_SIDE = 8.0
# Objects may cover this share of a piece of background. Its IoU with each is then no larger, and
# a piece from inside a large object, whose IoU is small as well, does not count as background.
MOST_COVERED = 0.1
TRIALS = 20
_CROP_STREAM = 3

Boxes = npt.NDArray[np.float32]
Sides = npt.NDArray[np.floating]


def object_crops(
    dataset: DetectionDataset, *, context: float = 0.15, background: bool = True, seed: int = 0
) -> DetectionDataset:
    """One record for each object: its picture, and as the only box the region that is looked at.

    Crowds, which are many objects in one box, and objects whose longer side is under 8 pixels are
    left out.

    Args:
        context: how far a region goes beyond its object, see `square_regions`.
        background: add a class of that name, unless the data has one: a square without objects
            from each picture that has room for it, at most as many as the largest class has.
        seed: of the places of background.
    """
    crops = [crop for record in dataset.records for crop in _crops_of(record, context)]
    names = dataset.class_names
    if background and BACKGROUND not in names and crops:
        regions = np.concatenate([crop.boxes_xyxy for crop in crops])
        sides = (regions[:, 2:] - regions[:, :2]).max(axis=1)
        pieces = background_crops(dataset, len(names), sides=sides, seed=seed)
        largest = int(np.bincount([crop.labels[0] for crop in crops]).max())
        chosen = np.random.default_rng((seed, _CROP_STREAM)).permutation(len(pieces))[:largest]
        crops += [pieces[index] for index in np.sort(chosen)]
        names = (*names, BACKGROUND)
    return replace(dataset, records=tuple(crops), class_names=names)


def _crops_of(record: Record, context: float) -> Iterator[Record]:
    sides = record.boxes_xyxy[:, 2:] - record.boxes_xyxy[:, :2]
    kept = ~record.crowd & (sides.max(axis=1, initial=0) >= SMALLEST_SIDE)
    regions = square_regions(record.boxes_xyxy[kept], record.size_hw, context=context)
    for place, region, label in zip(
        np.flatnonzero(kept), regions, record.labels[kept], strict=True
    ):
        yield _region_record(record, f"{record.image_id}#{place}", region, int(label))


def _region_record(record: Record, image_id: str, region_xyxy: Boxes, label: int) -> Record:
    return replace(
        record,
        image_id=image_id,
        boxes_xyxy=region_xyxy[None],
        labels=np.array([label], dtype=np.int64),
        crowd=np.zeros(1, dtype=bool),
        difficult=np.zeros(1, dtype=bool),
        areas=None,
    )


def square_regions(boxes_xyxy: Boxes, size_hw: tuple[int, int], *, context: float) -> Boxes:
    """Squares `xyxy [G, 4]` around `boxes_xyxy [G, 4]`, in pixels of a picture of `size_hw`.

    A square's side is the longer one of its box and `context` of it more on either side: as in a
    detector's receptive field, an object keeps its shape and has its surroundings. At a border
    the square is moved inside; where the picture is too small for it, it is cut.
    """
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    sides = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).max(axis=1, keepdims=True) * (1 + 2 * context)
    size_wh = np.array(size_hw[::-1], dtype=np.float32)
    low = np.clip(centres - sides / 2, 0, np.maximum(size_wh - sides, 0))
    return np.concatenate([low, np.minimum(low + sides, size_wh)], axis=1).astype(np.float32)


def background_crops(
    dataset: DetectionDataset, label: int, *, sides: Sides, seed: int = 0
) -> list[Record]:
    """At most one square from each picture, where objects cover a tenth of it or less.

    Places are uniform. All boxes count as objects, crowds too.

    Args:
        label: of the background.
        sides: `[N]` of the objects' regions, pixels; those of background are drawn from them, so
            that size does not tell one from the other.
    """
    pieces = []
    for index, record in enumerate(dataset.records):
        rng = np.random.default_rng((seed, _CROP_STREAM, index))
        side = np.minimum(rng.choice(sides, TRIALS), min(record.size_hw))[:, None]
        low = rng.random((TRIALS, 2)) * (np.array(record.size_hw[::-1]) - side)
        squares = np.concatenate([low, low + side], axis=1).astype(np.float32)
        covered = box_intersection(squares, record.boxes_xyxy).sum(axis=1) / box_area(squares)
        free = np.flatnonzero(covered <= MOST_COVERED)
        if len(free):
            name = f"{record.image_id}#{BACKGROUND}"
            pieces.append(_region_record(record, name, squares[free[0]], label))
    return pieces
