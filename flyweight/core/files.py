"""Writing files so that a kill or a full disk never leaves half of one."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flyweight.core.errors import InputError


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` when the block ends well.

    The temporary file keeps the suffix of `path`, since some writers choose their format by it.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.stem}-", suffix=f".part{target.suffix}", dir=target.parent
        )
        os.close(handle)
        temporary = Path(name)
        os.chmod(temporary, 0o644)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise writing_error(target, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def writing_error(path: str | os.PathLike[str], error: OSError) -> InputError:
    """The InputError that says why `path` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError("the disk is full", where=path, fix="free some space and run it again")
    reason = (error.strerror or str(error)).lower()
    return InputError(
        f"cannot write: {reason}", where=path, fix="choose a folder that can be written to"
    )
