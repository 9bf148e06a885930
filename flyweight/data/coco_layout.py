"""Where COCO data sets keep their annotation files and images: nobody does it quite alike."""

from __future__ import annotations

import os
import re
from pathlib import Path

from flyweight.core.errors import InputError
from flyweight.data.records import SPLITS, canonical_split, split_words

_OTHER_TASKS = frozenset({"captions", "keypoints", "stuff", "panoptic", "info", "results"})
_WHOLE_SET = frozenset({"instances", "annotations", "annotation", "labels", "coco", "result"})


def coco_splits(root: str | Path) -> list[str]:
    """Splits of the folder in the order train, val, test; empty when it is not COCO."""
    return list(find_annotation_files(Path(root), missing_ok=True))


def find_annotation_files(root: Path, *, missing_ok: bool = False) -> dict[str, Path]:
    """Split → its JSON file, told by the split's name in the name of the file or of its folder.

    A single file that names no split is ``train``. Files of COCO's other tasks are passed over.
    """
    for files in (
        sorted((root / "annotations").glob("*.json")),
        [
            path
            for word in ("train", "val", "valid", "validation", "test")
            for path in sorted((root / word).glob("*.json"))
        ],
        [path for path in sorted(root.glob("*.json")) if _words(path) & _all_words()],
    ):
        found = _assign_splits([path for path in files if not _words(path) & _OTHER_TASKS], root)
        if found:
            return found
    if missing_ok:
        return {}
    raise InputError(
        "no COCO annotations", where=root, fix="COCO keeps them in annotations/instances_train.json"
    )


def _assign_splits(files: list[Path], root: Path) -> dict[str, Path]:
    by_split: dict[str, list[Path]] = {}
    for path in files:
        splits = {canonical_split(word) for word in _words(path)} - {None}
        if not splits and path.parent != root:
            splits = {canonical_split(path.parent.name)} - {None}
        for split in splits if len(splits) == 1 else {None}:
            by_split.setdefault(split or "", []).append(path)
    unnamed = by_split.pop("", [])
    if not by_split and unnamed:
        by_split = {"train": unnamed}
    assigned = {}
    for split in SPLITS:
        candidates = by_split.get(split, [])
        preferred = [path for path in candidates if "instances" in _words(path)] or candidates
        if len(preferred) > 1:
            raise InputError(
                f"several annotation files for the split '{split}': "
                + ", ".join(path.name for path in preferred),
                where=preferred[0].parent,
                fix="keep one of them there",
            )
        if preferred:
            assigned[split] = preferred[0]
    return assigned


def _words(path: Path) -> set[str]:
    return set(re.findall(r"[a-z]+", path.stem.lower()))


def _all_words() -> frozenset[str]:
    return _WHOLE_SET.union(*(split_words(split) for split in SPLITS))


def image_folders(root: Path, annotation_file: Path, split: str) -> list[str]:
    """Folders that may hold the split's images, the most telling first."""
    stem = annotation_file.stem
    own = stem.removeprefix("instances_")  # train2017
    names = list(dict.fromkeys((own, *split_words(split))))
    places = [root / name for name in names] + [root / "images" / name for name in names]
    places += [root / name for name in ("images", "JPEGImages", "data")]
    places += [root, annotation_file.parent]
    if annotation_file.parent.parent != root.parent:
        places.insert(0, annotation_file.parent)
    folders = [os.path.normpath(place) for place in dict.fromkeys(places) if place.is_dir()]
    return folders
