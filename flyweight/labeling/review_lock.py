"""One process at a time on the labels of a data set."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flyweight.core.errors import InputError
from flyweight.core.files import writing_error

PID_BYTES = 20


@contextmanager
def lock_labels(annotations: Path) -> Iterator[None]:
    """Hold the COCO file `annotations` for this process while the block runs.

    The kernel's own lock (`flock`) is let go with the process that holds it, however that ended: a
    lock file that is left over keeps nobody out. It holds the process' number for the others.

    Raises:
        InputError: another process holds it, or the folder cannot be written to.
    """
    path = lock_file(annotations)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise writing_error(path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            other = os.read(descriptor, PID_BYTES).decode(errors="replace").strip()
            raise InputError(
                f"process {other or 'of another kind'} is at work on these labels",
                where=annotations,
                fix="go on in its page, or end it first (Ctrl-C in its terminal)",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def lock_file(annotations: Path) -> Path:
    """The lock file beside the COCO file `annotations`."""
    return annotations.with_name(f".{annotations.stem}.lock")
