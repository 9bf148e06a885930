"""Labels that are written anew keep what a person has decided."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyweight.core.errors import InputError
from flyweight.data.coco_json import stream_coco_json
from flyweight.labeling.review_file import FolderOfLabels
from flyweight.labeling.review_lock import lock_labels
from flyweight.labeling.review_store import open_store


@dataclass
class ReviewedPicture:
    """What a person has made of the labels of a picture.

    Attributes:
        mark: `begun` or `done`.
        annotations: all of the picture, those that nobody has decided on as well.
    """

    mark: str
    annotations: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def kept_reviews(root: Path) -> Iterator[dict[str, ReviewedPicture]]:
    """Name → what a person has made of the picture's labels, of the labelled data set in `root`.

    The labels are this process' alone while the block runs, so that it can write them anew.

    Raises:
        InputError: somebody is reviewing them, or what was decided cannot be read.
    """
    folder = FolderOfLabels(root)
    if folder.journal.exists() and folder.annotations.is_file():
        with open_store(root):
            pass  # a review that did not end well: into the COCO file first
    with lock_labels(folder.annotations):
        if folder.journal.exists():
            raise InputError(
                "decisions of a review that are not in the COCO file",
                where=folder.journal,
                fix=f"bring them there with: flyweight label --review {root}",
            )
        yield _reviewed(folder.annotations) if folder.annotations.is_file() else {}


def _reviewed(annotations: Path) -> dict[str, ReviewedPicture]:
    """The pictures with a mark; the file is read in parts, since most have none."""
    by_id: dict[int | str, ReviewedPicture] = {}
    by_name: dict[str, ReviewedPicture] = {}
    for section, _, entries in stream_coco_json(annotations):
        for entry in entries:
            if section == "images" and "reviewed" in entry:
                picture = ReviewedPicture(entry["reviewed"])
                by_id[entry["id"]] = by_name[entry["file_name"]] = picture
            elif section == "annotations" and entry["image_id"] in by_id:
                by_id[entry["image_id"]].annotations.append(entry)
    return by_name
