"""Which class of the data a teacher means by each of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError

# C classes of the teacher

# What PASCAL VOC and COCO call the same things.
VOC_TO_COCO = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
SYNONYMS = VOC_TO_COCO | {coco: voc for voc, coco in VOC_TO_COCO.items()}


def map_classes(
    teacher_classes: Sequence[str],
    data_classes: Sequence[str],
    *,
    renamed: Mapping[str, str] | None = None,
    where: str | None = None,
    fix: str = "say which is meant: --map TEACHERS=DATAS, or take another teacher",
) -> npt.NDArray[np.int64]:
    """The data's label of each class of a teacher, `[C]`; -1 where the data has no such class.

    A class keeps its name, unless `renamed` gives another; several may become one. VOC's and
    COCO's names for the same thing are known. A teacher that lacks a class of the data would leave
    its objects unlabelled, and they would be learnt as background: it is refused.

    Args:
        renamed: teacher's class → class of the data; goes before everything else. Classes that
            this teacher does not have are passed over: another may have them.
        where: the teacher's file, for the error.
        fix: what the error advises.

    Raises:
        InputError: the teacher has no class for one of the data's.
    """
    renamed = renamed or {}
    label_of = {name: label for label, name in enumerate(data_classes)}

    def label(name: str) -> int:
        if name in renamed:
            return label_of[renamed[name]]
        return label_of.get(name, label_of.get(SYNONYMS.get(name, ""), -1))

    labels = np.array([label(name) for name in teacher_classes], dtype=np.int64)
    missing = [name for name, number in label_of.items() if number not in labels]
    if missing:
        spare = [name for name, number in zip(teacher_classes, labels, strict=True) if number < 0]
        raise InputError(
            f"the teacher has no class for {_listed(missing)}; "
            + (f"it has {_listed(spare)} besides" if spare else "it has no others"),
            where=where,
            fix=fix,
        )
    return labels


def check_renamed(
    renamed: Mapping[str, str],
    data_classes: Sequence[str],
    teachers_classes: Sequence[Sequence[str]],
) -> None:
    """See that every name in `renamed` is known to somebody.

    Raises:
        InputError: no teacher has the class, or the data has not the one it should become.
    """
    known = {name for classes in teachers_classes for name in classes}
    for theirs, ours in renamed.items():
        if theirs not in known:
            raise InputError(
                f"no teacher has a class {theirs!r}",
                where=f"--map {theirs}={ours}",
                fix=f"they have {_listed(sorted(known))}",
            )
        if ours not in data_classes:
            raise InputError(
                f"the data has no class {ours!r}",
                where=f"--map {theirs}={ours}",
                fix=f"it has {_listed(data_classes)}",
            )


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
