"""Decisions on the disk before they are answered: JSON lines that outlive the process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flyweight.core.errors import InputError
from flyweight.core.files import writing_error


class Journal:
    """A file of JSON lines, opened by one process.

    A line counts when its line break is on the disk. What follows the last one, left by a kill or
    a full disk, was never answered: it is cut off before the next line is written.

    Args:
        path: of the file; made where it is not there.

    Raises:
        InputError: it cannot be written, or is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise writing_error(path, error) from error
        sync_folder(path.parent)
        whole, line_break, _ = path.read_bytes().rpartition(b"\n")
        self._end = len(whole) + len(line_break)
        try:
            self.lines: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            os.close(self._descriptor)
            raise InputError(
                "the decisions that were not yet in the COCO file cannot be read",
                where=path,
                fix="mend or move the file; without it these decisions are lost",
            ) from error

    def append(self, line: dict[str, Any]) -> None:
        """Write a line; it is on the disk when this returns.

        Raises:
            OSError: it could not be written: it does not count.
        """
        data = json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        os.ftruncate(self._descriptor, self._end)
        # the kernel may take a part only, and give the reason the next time
        written = 0
        while written < len(data):
            written += os.pwrite(self._descriptor, data[written:], self._end + written)
        os.fsync(self._descriptor)
        self._end += len(data)

    def clear(self) -> None:
        """Forget all lines: they are in the COCO file."""
        os.ftruncate(self._descriptor, 0)
        self._end, self.lines = 0, []
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Let go of the file; one without lines is removed."""
        os.close(self._descriptor)
        if not self._end:
            self.path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk: a file that was made or renamed outlives a power
    cut only then."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
