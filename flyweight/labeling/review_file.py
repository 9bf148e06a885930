"""The files of a labelled data set that a review reads and writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from flyweight.core.errors import InputError


class FolderOfLabels:
    """Where `flyweight label` puts what a review needs.

    Attributes:
        annotations: the COCO file.
        images: the folder of the pictures.
        journal: decisions that are not in the COCO file yet, JSON lines; there while needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.annotations = root / "annotations" / "instances_train.json"
        self.images = root / "images" / "train"
        self.journal = self.annotations.with_name(f"{self.annotations.stem}.review.jsonl")

    def check(self) -> None:
        """Raise an InputError where no labelled data set is here."""
        if not self.annotations.is_file():
            raise InputError(
                "no labels to review",
                where=self.annotations,
                fix="name the folder that was given to `flyweight label` as --out",
            )


def read_coco(path: Path) -> dict[str, Any]:
    """The whole of a COCO file, every entry with what a review needs of it.

    Raises:
        InputError: it cannot be read, is broken JSON, or an entry lacks something.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"broken JSON ({error})",
            where=path,
            fix="label again, into a new --out, or without this file",
        ) from error
    for section, sound in _SOUND.items():
        entries = content.get(section) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise InputError(f"JSON that is not COCO: no list '{section}'", where=path)
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict) or not _holds(sound, entry):
                raise InputError(
                    "an entry lacks what a review needs",
                    where=f"{path}, {section}[{number}]",
                    fix="see what is wrong with: flyweight data check",
                )
    if not isinstance(content.get("info") or {}, dict):
        raise InputError("'info' is no object", where=path, fix="remove it")
    for section in ("images", "annotations"):
        if len({entry["id"] for entry in content[section]}) < len(content[section]):
            raise InputError(f"ids in '{section}' occur twice", where=path, fix="number them anew")
    return content


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _holds(sound: Callable[[dict[str, Any]], bool], entry: dict[str, Any]) -> bool:
    try:
        return sound(entry)
    except (KeyError, TypeError, ValueError):
        return False


_SOUND: dict[str, Callable[[dict[str, Any]], bool]] = {
    "images": lambda entry: (
        isinstance(entry["id"], int | str)
        and isinstance(entry["file_name"], str)
        and min(entry["width"], entry["height"]) > 0
    ),
    "annotations": lambda entry: (
        type(entry["id"]) is int
        and isinstance(entry["image_id"], int | str)
        and type(entry["category_id"]) is int
        and len([float(each) for each in entry["bbox"]]) == 4
    ),
    "categories": lambda entry: type(entry["id"]) is int and isinstance(entry["name"], str),
}
