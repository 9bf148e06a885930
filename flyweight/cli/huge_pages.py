"""Trainings on a CPU keep freed memory, in huge pages where Linux leaves that to the program."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

TUNABLES = "GLIBC_TUNABLES"
# pages of 2 MB; all from the heap; 8 GB of it kept when they are free; taken in pieces of 64 MB
HUGE_PAGES = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:"
    "glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=67108864"
)
# the first glibc that knows it
OLDEST_GLIBC = (2, 35)
# "always [madvise] never"; with "always" there is nothing to ask for
POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_with_huge_pages(verbs: Sequence[str], arguments: Sequence[str]) -> None:
    """Run this command anew with glibc told to keep its memory in pages of 2 MB, if it can.

    A training step frees gigabytes of activations and takes them anew. glibc gives large blocks
    back to the system each time, which hands them out again zeroed, in pages of 4 kB: 16,000 to
    70,000 faults a step (`benchmarks/training_step.py`). glibc reads the setting when a process
    starts, hence the restart. A setting that is there is left alone, so it happens once.

    Args:
        verbs: that train.
        arguments: of the command, without its name.
    """
    if not arguments or arguments[0] not in verbs or not wanted(dict(os.environ)):
        return
    os.environ[TUNABLES] = with_huge_pages(os.environ.get(TUNABLES, ""))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def wanted(environment: dict[str, str], policy: Path = POLICY) -> bool:
    """Whether glibc can be told, has not been, and Linux leaves it to the program."""
    if "hugetlb" in environment.get(TUNABLES, ""):
        return False
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        known = tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_GLIBC
        return name == "glibc" and known and "[madvise]" in policy.read_text()
    except (AttributeError, OSError, ValueError):  # another system
        return False


def with_huge_pages(tunables: str) -> str:
    """`GLIBC_TUNABLES` with the request added."""
    return ":".join(filter(None, [tunables, HUGE_PAGES]))
