"""Files that must stay as they are while a run reads them."""

from __future__ import annotations

import os
from multiprocessing.sharedctypes import RawArray

from flyweight.core.errors import InputError


class FileWatch:
    """Notices when a file is not the one that was read first: its size or its time of change.

    The files are known by number, 16 bytes each, in memory that forked and spawned processes
    share: whoever reads a file first says what it was. Looking costs one `stat`.

    Args:
        count: how many files there are.
    """

    def __init__(self, count: int) -> None:
        self._seen = RawArray("q", 2 * max(1, count))

    def check(self, index: int, path: str | os.PathLike[str]) -> None:
        """Compare the file number `index` with what it was at the first call.

        Raises:
            InputError: it has changed. A file that is not there is left to its reader.
        """
        try:
            status = os.stat(path)
        except OSError:
            return
        now = (status.st_mtime_ns, status.st_size)
        first = (self._seen[2 * index], self._seen[2 * index + 1])
        if first == (0, 0):
            self._seen[2 * index], self._seen[2 * index + 1] = now
        elif first != now:
            raise InputError(
                "the picture was changed during the run",
                where=path,
                fix="start anew, and keep the data as it is until the end",
            )
