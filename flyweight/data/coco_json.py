"""Reading COCO's JSON files without holding what detection does not need."""

from __future__ import annotations

import gc
import json
import mmap
import re
from pathlib import Path
from typing import Any

from flyweight.core.errors import InputError

_SECTIONS = ("images", "annotations", "categories")
# Polygons, run lengths and key points are nine tenths of COCO's files in memory.
_UNUSED = ("segmentation", "counts", "keypoints", "caption", "coco_url", "flickr_url")
_CATEGORIES = re.compile(rb'"categories"\s*:\s*(?=\[)')
_FIRST_SLICE_BYTES = 1 << 16


def read_coco_json(path: Path) -> dict[str, Any]:
    """The file's content with the lists ``images``, ``annotations`` and ``categories``.

    Segmentations are dropped while parsing: a file of 1,000,000 annotations takes 1.2 GB.
    """
    collecting = gc.isenabled()
    # The collector would go through all objects again and again while they only grow in number.
    gc.disable()
    try:
        with path.open(encoding="utf-8-sig") as file:
            content = json.load(file, object_hook=_drop_unused)
    except json.JSONDecodeError as error:
        raise InputError(
            f"broken JSON ({error.msg})",
            where=f"{path}, line {error.lineno}, column {error.colno}",
            fix="export or copy the file again",
        ) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            "broken JSON (not text)", where=path, fix="export or copy the file again"
        ) from error
    except OSError as error:
        raise InputError(
            f"the annotation file cannot be read ({error.strerror})", where=path
        ) from error
    finally:
        if collecting:
            gc.enable()
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
    return content


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
        entries = read_coco_json(path)["categories"]
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
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = [match.end() for match in _CATEGORIES.finditer(data)]
            if len(found) != 1:
                return None
            size = _FIRST_SLICE_BYTES
            while True:
                text = data[found[0] : found[0] + size].decode("utf-8", errors="ignore")
                try:
                    return json.JSONDecoder().raw_decode(text)[0]
                except json.JSONDecodeError:
                    if found[0] + size >= len(data):
                        return None
                    size *= 8
    except (OSError, ValueError):  # an empty file cannot be mapped
        return None
