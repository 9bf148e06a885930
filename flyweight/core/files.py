"""Writing files so that a kill or a full disk never leaves half of one."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from flyweight.core.errors import InputError

# As `tempfile.mkstemp` makes them of the parts given to it.
_TEMPORARY = re.compile(r"\..*-[a-z0-9_]{8}\.part(\.[^.]*)?")
# Of folders for unfinished work.
SCRATCH = ".flyweight-"
# Processes (a forked one is another) and the folders that they have tidied up.
_tidied: set[tuple[int, Path]] = set()


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` when the block ends well.

    The temporary file keeps the suffix of `path`, since some writers choose their format by it.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    target = Path(path)
    temporary: Path | None = None
    handle: int | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _tidy(target.parent)
        handle, temporary = _locked(partial(_new_file, target))
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
        if handle is not None:
            os.close(handle)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder in `parent` for unfinished work, removed in the end unless it was renamed.

    Those that killed processes left there are removed first.

    Raises:
        OSError: `parent` cannot be written to.
    """
    _remove_abandoned(parent.glob(f"{SCRATCH}????????"))
    handle, folder = _locked(partial(_new_folder, parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _new_file(target: Path) -> tuple[int, str]:
    handle, name = tempfile.mkstemp(
        prefix=f".{target.stem}-", suffix=f".part{target.suffix}", dir=target.parent
    )
    os.fchmod(handle, 0o644)
    return handle, name


def _new_folder(parent: Path) -> tuple[int, str]:
    name = tempfile.mkdtemp(prefix=SCRATCH, dir=parent)
    os.chmod(name, 0o755)
    return os.open(name, os.O_RDONLY), name


def _locked(make: Callable[[], tuple[int, str]]) -> tuple[int, Path]:
    """A new file or folder and its handle, held by a lock that ends with this process."""
    while True:
        handle, name = make()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # taken for an abandoned one before it was locked
        except OSError:
            return handle, Path(name)  # no locks on this disk: then nothing is tidied up either
        else:
            if os.path.exists(name):
                return handle, Path(name)
        os.close(handle)


def _remove_abandoned(paths: Iterable[Path]) -> None:
    """Remove what killed processes left half written; nobody holds its lock any more."""
    for path in paths:
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            finally:
                os.close(handle)


def _tidy(folder: Path) -> None:
    """Remove abandoned files, once for each folder in each process: it may hold a million."""
    if (os.getpid(), folder) not in _tidied:
        _tidied.add((os.getpid(), folder))
        with os.scandir(folder) as entries:
            found = [Path(entry) for entry in entries if _TEMPORARY.fullmatch(entry.name)]
        _remove_abandoned(found)


def writing_error(path: str | os.PathLike[str], error: OSError) -> InputError:
    """The InputError that says why `path` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError("the disk is full", where=path, fix="free some space and run it again")
    reason = (error.strerror or str(error)).lower()
    return InputError(
        f"cannot write: {reason}", where=path, fix="choose a folder that can be written to"
    )
