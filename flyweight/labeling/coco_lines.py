"""A COCO file with an entry a line: written a piece at a time, and readable in a diff."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from flyweight.core.files import write_atomically


def write_coco_lines(
    path: Path,
    head: Mapping[str, Any],
    *,
    images: Iterable[dict[str, Any]],
    annotations: Iterable[dict[str, Any]],
) -> None:
    """Write the file; `annotations` is begun when `images` has ended.

    Args:
        head: everything but the two lists: `info`, `categories`, ...

    Raises:
        InputError: the disk is full.
    """
    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("{")
        for name, content in head.items():
            file.write(f"{_json(name)}: {_json(content)},\n")
        file.write('"images": [')
        _write_list(file, images)
        file.write('],\n"annotations": [')
        _write_list(file, annotations)
        file.write("]}\n")


def _write_list(file: TextIO, entries: Iterable[dict[str, Any]]) -> None:
    separator = "\n"
    for entry in entries:
        file.write(separator + _json(entry))
        separator = ",\n"


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False)
