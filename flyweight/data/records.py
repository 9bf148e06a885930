"""Labelled images as every part of Flyweight sees them, whatever format they came from.

Boxes are float32 ``xyxy`` in pixels of the image, continuous coordinates: a box that covers a
whole 10 x 10 image is ``0, 0, 10, 10``. Labels are contiguous from 0 in the order of
``class_names``, which is the same in every split of a data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from flyweight.core.errors import InputError
from flyweight.core.printable import check_class_names

if TYPE_CHECKING:
    from flyweight.data.record_table import RecordTable

# G ground-truth boxes of one image

SPLITS = ("train", "val", "test")
ALL_SPLITS = "all"

_SPLIT_SYNONYMS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Problem:
    """One fault of a data set, found while reading it.

    Codes: ``missing_image``, ``unreadable_image``, ``missing_annotation``, ``bad_annotation``,
    ``nan_box``, ``inverted_box``, ``empty_box``, ``unknown_class``, ``unknown_image``,
    ``duplicate_image_id``, ``duplicate_annotation_id``, ``no_labels``. An ``error`` stops a load
    without a handler; a ``warning`` (a box of no area, say, which real COCO has) does not: the
    loader goes on as it would with a handler.
    """

    code: str
    message: str
    where: str
    fix: str | None = None
    severity: Literal["error", "warning"] = "error"


ProblemHandler = Callable[[Problem], None]


def report_problem(problem: Problem, on_problem: ProblemHandler | None) -> None:
    """Hand the problem to the handler; without one, an error becomes an ``InputError``."""
    if on_problem is not None:
        on_problem(problem)
    elif problem.severity == "error":
        raise InputError(problem.message, where=problem.where, fix=problem.fix)


def find_box_faults(boxes_xyxy: np.ndarray) -> dict[int, Problem]:
    """Row → fault of each box that cannot be used; sound rows are absent.

    ``boxes_xyxy`` [G, 4] float64, pixels. Boxes that stick out of the image are sound here (the
    doctor lists them). A box is judged as the float32 it is going to be: sides that vanish in
    rounding count as empty. ``where`` of each problem is left for the caller to fill in.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        stored = boxes_xyxy.astype(np.float32)
        finite = np.all(np.isfinite(stored), axis=1)
        inverted = np.any(boxes_xyxy[:, 2:] < boxes_xyxy[:, :2], axis=1)
        sound = finite & np.all(stored[:, 2:] > stored[:, :2], axis=1)
    faults = {}
    for row in np.flatnonzero(~sound).tolist():
        corners = ", ".join(f"{value:g}" for value in boxes_xyxy[row].tolist())
        if not finite[row]:
            fault = Problem(
                "nan_box", f"box has a coordinate that is not a number ({corners})", "", _FIX_BOX
            )
        elif inverted[row]:
            fault = Problem("inverted_box", f"box ends before it starts ({corners})", "", _FIX_BOX)
        else:
            fault = Problem(
                "empty_box", f"box has no area ({corners})", "", _FIX_BOX, severity="warning"
            )
        faults[row] = fault
    return faults


_FIX_BOX = "correct or delete that box"


@dataclass(frozen=True, eq=False)
class Record:
    """One image and its objects.

    ``boxes_xyxy`` [G, 4] float32 pixels of the image as ``size_hw`` gives it, ``labels`` [G]
    int64, ``crowd`` [G] bool (COCO's iscrowd: one box around many), ``difficult`` [G] bool (VOC),
    ``areas`` [G] float32 square pixels of the object itself where the format tells (COCO's
    ``area``, which decides small, medium or large in its AP), else None: the box's area.
    """

    image_id: int | str
    path: Path
    size_hw: tuple[int, int]
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    areas: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class DetectionDataset:
    """The records of one split (or of all, ``split="all"``) and the class names.

    ``records`` may be a table, which makes each of them when it is asked for.
    """

    records: tuple[Record, ...] | RecordTable
    class_names: tuple[str, ...]
    root: Path
    split: str
    format: str

    def __post_init__(self) -> None:
        check_class_names(self.class_names, self.root)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]

    def subset(self, indices: Iterable[int]) -> DetectionDataset:
        """The records at ``indices``, in that order."""
        if not isinstance(self.records, tuple):
            return replace(self, records=self.records.take(indices))
        return replace(self, records=tuple(self.records[int(index)] for index in indices))

    def remap(self, class_names: Sequence[str]) -> DetectionDataset:
        """The same objects, their labels renumbered to the order of ``class_names``.

        A class that has objects here and is not in ``class_names`` is an ``InputError``; one that
        is only listed falls away.
        """
        target = tuple(class_names)
        if target == self.class_names:
            return self
        position = {name: index for index, name in enumerate(target)}
        renumber = np.array([position.get(name, -1) for name in self.class_names], dtype=np.int64)
        used = np.zeros(len(self.class_names), dtype=bool)
        for record in self.records:
            used[record.labels] = True
        unknown = [
            name
            for label, name in enumerate(self.class_names)
            if renumber[label] < 0 and used[label]
        ]
        if unknown:
            raise InputError(
                f"the data set has classes that are not known here: {', '.join(unknown)}",
                where=str(self.root),
                fix=f"known classes are {', '.join(target)}",
            )
        if not isinstance(self.records, tuple):
            return replace(self, records=self.records.renumbered(renumber), class_names=target)
        records = tuple(
            replace(record, labels=renumber[record.labels]) if len(record) else record
            for record in self.records
        )
        return replace(self, records=records, class_names=target)


def concatenate(datasets: Sequence[DetectionDataset], split: str) -> DetectionDataset:
    """Several splits of one data set as one; their class names are equal.

    Formats number images per split, so equal ids of different images become ``SPLIT/ID``.
    """
    records = [record for dataset in datasets for record in dataset.records]
    if len({record.image_id for record in records}) < len(records):
        records = [
            replace(record, image_id=f"{dataset.split}/{record.image_id}")
            for dataset in datasets
            for record in dataset.records
        ]
    return replace(datasets[0], records=tuple(records), split=split)


def canonical_split(word: str) -> str | None:
    """``train``, ``val`` or ``test`` for that word or its synonyms (``valid``, ...), else None."""
    return _SPLIT_SYNONYMS.get(word.lower())


def split_words(split: str) -> tuple[str, ...]:
    """All words that name the split in files and folders, the canonical one first."""
    return tuple(word for word, canonical in _SPLIT_SYNONYMS.items() if canonical == split)


def choose_splits(split: str | None, available: Sequence[str], root: Path) -> list[str]:
    """The splits that a request stands for: one, ``trainval``, or all for None or ``all``."""
    if split is None or split == ALL_SPLITS:
        return list(available)
    if split == "trainval" and "train" in available:
        return [name for name in ("train", "val") if name in available]
    wanted = canonical_split(split)
    if wanted is None or wanted not in available:
        raise InputError(
            f"the data set has no split '{split}'",
            where=str(root),
            fix=f"it has {', '.join(available)}",
        )
    return [wanted]


def named_splits(
    splits: DetectionDataset | Mapping[str, DetectionDataset],
) -> dict[str, DetectionDataset]:
    """What a writer was given as split → data set, all of the same classes.

    A single data set goes under its own split, or under ``train`` when it has all of them.
    """
    if isinstance(splits, DetectionDataset):
        name = splits.split if splits.split in SPLITS else "train"
        splits = {name: splits}
    if len({dataset.class_names for dataset in splits.values()}) > 1:
        raise InputError(
            "the splits have different classes",
            where=", ".join(splits),
            fix="bring them to one list of classes with remap",
        )
    return dict(splits)
