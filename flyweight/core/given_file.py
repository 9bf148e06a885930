"""Reading a file whose content nobody here wrote: only a real file, and never more than expected.

A pipe waits for a writer that may never come, `/dev/zero` has no end, and both may stand under a
picture's name in a folder that was unpacked from somewhere.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from flyweight.core.errors import InputError

# Annotations, settings, lists: what a person or a tool writes about pictures.
MAX_TEXT_BYTES = 256 << 20


def read_given(path: str | os.PathLike[str], *, most_bytes: int) -> bytes:
    """The bytes of a regular file, links to one followed.

    Raises:
        OSError: it cannot be opened or read; `FileNotFoundError` where there is none.
        InputError: it is a pipe, a device or a folder, or has more than `most_bytes`.
    """
    check_regular(path)
    # Without waiting: it may have become a pipe meanwhile.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb", buffering=0) as stream:
        size = os.fstat(handle).st_size
        if size > most_bytes:
            raise InputError(
                f"the file has {size / 1e6:.0f} MB, over the limit of {most_bytes / 1e6:.0f}",
                where=path,
                fix="remove it, or split it",
            )
        return stream.read(size)


def read_given_text(path: str | os.PathLike[str]) -> str:
    """The text of a regular UTF-8 file of at most `MAX_TEXT_BYTES`, without a byte order mark.

    Raises:
        OSError, InputError: see `read_given`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_given(path, most_bytes=MAX_TEXT_BYTES).decode("utf-8-sig")


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise where `path` is there and is neither a file nor a link to one.

    Raises:
        OSError: it cannot be looked at; `FileNotFoundError` where there is none.
        InputError: it is a pipe, a device or a folder; or no path at all.
    """
    try:
        mode = Path(path).stat().st_mode
    except ValueError as error:  # a zero byte, or half a character
        raise InputError("this is no path", where=repr(os.fspath(path))) from error
    if not stat.S_ISREG(mode):
        raise InputError("this is not a file", where=path, fix="remove it, or name a file")
