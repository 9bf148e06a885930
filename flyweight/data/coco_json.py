"""Reading COCO's JSON files in parts, without holding what detection does not need."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from flyweight.core.errors import InputError
from flyweight.core.given_file import check_regular
from flyweight.data.json_stream import FileBytes, read_value, split_json, without_collector

_SECTIONS = ("images", "annotations", "categories")
# Polygons, run lengths and key points are nine tenths of COCO's files in memory.
_UNUSED = ("segmentation", "counts", "keypoints", "caption", "coco_url", "flickr_url")
_CATEGORIES = re.compile(rb'"categories"\s*:\s*(?=\[)')
_SCANNED_BYTES = 16 << 20
# the name with the space around its colon
_OVERLAP = 256


class Part(NamedTuple):
    """Entries of one of the file's lists that follow each other.

    Attributes:
        section: "images", "annotations" or "categories".
        first: the place of the first one in its list.
        entries: parsed, as they stand there.
    """

    section: str
    first: int
    entries: list[Any]


def stream_coco_json(path: Path) -> Iterator[Part]:
    """The lists of the file in parts, each list in its order; at least one part of each.

    A file of a million images has a gigabyte, and takes six parsed as a whole.

    Raises:
        InputError: the file cannot be read, is broken, or lacks one of the lists.
    """
    seen: dict[str, int] = {}
    try:
        check_regular(path)
        with path.open("rb", buffering=0) as file, without_collector():
            for section, entries in split_json(FileBytes(file), _SECTIONS):
                first = seen.setdefault(section, 0)
                seen[section] += len(entries)
                yield Part(section, first, entries)
    except (OSError, ValueError, RecursionError) as error:
        # The plain reader says what is wrong, and where.
        _check_coco_json(path)
        raise InputError(f"broken JSON ({error})", where=path) from error
    if len(seen) < len(_SECTIONS):
        _check_coco_json(path)


def _check_coco_json(path: Path) -> None:
    """Parse the file as a whole.

    Raises:
        InputError: it cannot be read, is broken, or lacks one of the lists.
    """
    try:
        with path.open(encoding="utf-8-sig") as file, without_collector():
            content = json.load(file, object_hook=_drop_unused)
    except json.JSONDecodeError as error:
        raise InputError(
            f"broken JSON ({error.msg})",
            where=f"{path}, line {error.lineno}, column {error.colno}",
            fix="export or copy the file again",
        ) from error
    except (ValueError, RecursionError) as error:  # no text, too deep, a number of many digits
        raise InputError(
            "broken JSON (not text)", where=path, fix="export or copy the file again"
        ) from error
    except OSError as error:
        raise InputError(
            f"the annotation file cannot be read ({error.strerror})", where=path
        ) from error
    missing = [
        name
        for name in _SECTIONS
        if not isinstance(content, dict) or not isinstance(content.get(name), list)
    ]
    if missing:
        raise InputError(
            f"JSON that is not COCO: no list {' and '.join(map(repr, missing))}",
            where=path,
            fix="COCO has the lists 'images', 'annotations' and 'categories'",
        )


def _drop_unused(item: dict[str, Any]) -> dict[str, Any]:
    for name in _UNUSED:
        item.pop(name, None)
    return item


def read_categories(path: Path) -> dict[int, str]:
    """Category id → name, in most files without parsing the rest.

    Class names need the categories of every split, also when a single one is opened, and the
    training split's file may have half a gigabyte.
    """
    entries = _scan_categories(path)
    if entries is None:
        parts = (part for part in stream_coco_json(path) if part.section == "categories")
        entries = [entry for part in parts for entry in part.entries]
    categories: dict[int, str] = {}
    for number, entry in enumerate(entries):
        where = f"{path}, categories[{number}]"
        identifier = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("name") if isinstance(entry, dict) else None
        if type(identifier) is not int or not isinstance(name, str) or not name:
            raise InputError(
                "category without a number or a name", where=where, fix="give it 'id' and 'name'"
            )
        if categories.setdefault(identifier, name) != name:
            raise InputError(
                f"category {identifier} is both '{categories[identifier]}' and '{name}'",
                where=where,
                fix="give every class its own id",
            )
    return categories


def _scan_categories(path: Path) -> list[Any] | None:
    """The list after the only ``"categories":`` of the file; None when that is not certain."""
    try:
        check_regular(path)
        with path.open("rb", buffering=0) as file:
            data = FileBytes(file)
            found = [
                start + match.end()
                for start in range(0, len(data), _SCANNED_BYTES)
                for match in _CATEGORIES.finditer(data[start : start + _SCANNED_BYTES + _OVERLAP])
                if match.start() < _SCANNED_BYTES
            ]
            value = read_value(data, found[0])[0] if len(found) == 1 else None
            return value if isinstance(value, list) else None
    except (OSError, ValueError, RecursionError):
        return None
