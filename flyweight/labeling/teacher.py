"""A teacher: any detector that names its classes, from whatever file it comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from flyweight.core.detections import Detections
from flyweight.core.errors import InputError
from flyweight.core.file_digest import file_sha256
from flyweight.data.class_mapping import check_renamed, map_classes
from flyweight.labeling.foreign import open_foreign

# C classes of a teacher

Image = npt.NDArray[np.uint8]


class Teacher(Protocol):
    """What finds objects: a checkpoint's detector, an exported file's predictor, a foreign file."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels."""
        ...

    def predict_batch(self, images: Sequence[Image]) -> list[Detections]:
        """Detections, low scores too, of each RGB uint8 `[H, W, 3]` image, in its own pixels."""
        ...


@dataclass(frozen=True)
class NamedTeacher:
    """A teacher that speaks of the data's classes.

    Attributes:
        name: what annotations call it.
        sha256: of its file, hexadecimal.
        teacher: the detector.
        label_of: `[C]` the data's label of each of its classes, -1 for those the data has not.
    """

    name: str
    sha256: str
    teacher: Teacher
    label_of: npt.NDArray[np.int64]

    def predict_batch(self, images: Sequence[Image]) -> list[Detections]:
        """Detections of each RGB uint8 `[H, W, 3]` image: its own pixels, labels of the data."""
        return [self._translated(found) for found in self.teacher.predict_batch(images)]

    def _translated(self, found: Detections) -> Detections:
        labels = self.label_of[found.labels]
        kept = labels >= 0
        return Detections(found.boxes_xyxy[kept], found.scores[kept], labels[kept])

    @property
    def decode_size_hw(self) -> tuple[int, int] | None:
        """What it needs of a picture at least, pixels; None where it does not say."""
        preprocessing = getattr(self.teacher, "preprocessing", None)
        if preprocessing is not None:
            return preprocessing.decode_size_hw
        return getattr(self.teacher, "size_hw", None)


def open_teachers(
    paths: Sequence[Path],
    data_classes: Sequence[str],
    *,
    load: Callable[[Path], Teacher],
    renamed: Mapping[str, str] | None = None,
    threads: int | None = None,
) -> list[NamedTeacher]:
    """Open the teachers in `paths` for data of `data_classes`.

    Args:
        load: opens Flyweight's own files: `flyweight.api.load`.
        renamed: teacher's class → class of the data, see `map_classes`.
        threads: of a foreign network; the available cores by default.

    Raises:
        InputError: a file cannot be used, is given twice, or its classes do not map.
    """
    names = teacher_names(paths)
    opened = [open_foreign(path, threads=threads) or load(path) for path in paths]
    check_renamed(renamed or {}, data_classes, [teacher.class_names for teacher in opened])
    teachers: list[NamedTeacher] = []
    for path, name, teacher in zip(paths, names, opened, strict=True):
        labels = map_classes(teacher.class_names, data_classes, renamed=renamed, where=str(path))
        named = NamedTeacher(name, file_sha256(path), teacher, labels)
        if any(named.sha256 == other.sha256 for other in teachers):
            raise InputError(
                "this teacher is given twice", where=path, fix="a copy adds nothing: leave it out"
            )
        teachers.append(named)
    return teachers


def teacher_names(paths: Sequence[Path]) -> list[str]:
    """The names of the files, with as many of their folders as it takes to tell them apart."""
    depth = 1
    longest = max(len(path.parts) for path in paths)
    while depth < longest and len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in paths]
