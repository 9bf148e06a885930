"""Which pictures each reading process is at, so that a dead one can be asked."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import active_children
from multiprocessing.sharedctypes import RawArray
from typing import TYPE_CHECKING, Protocol

from flyweight.core.errors import InputError

if TYPE_CHECKING:
    from flyweight.data.records import DetectionDataset

# A sample of several pictures has four or five: more are not noted.
PICTURES = 6
SLOT = 2 + PICTURES
PATIENCE_SECONDS = 1.0


class ReaderNotes:
    """A page of shared memory for each reading process: its id and the records of its sample.

    A process that is killed, or that a decoder takes down, raises nothing: all that is left of it
    is what it wrote here before.

    Args:
        workers: how many processes read.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._start: int | None = None
        # per worker: process id, number of records, the records
        self._pages = RawArray("q", SLOT * max(1, workers))

    def bind(self, worker: int) -> None:
        """This process is reading process number `worker`; without it nothing is noted."""
        self._start = worker * SLOT
        self._pages[self._start] = os.getpid()

    def begin(self, record: int) -> None:
        """This process starts on the sample of `record`."""
        if self._start is not None:
            self._pages[self._start + 2] = record
            self._pages[self._start + 1] = 1

    def add(self, record: int) -> None:
        """Its sample also takes pixels of `record`."""
        if self._start is not None and (count := self._pages[self._start + 1]) < PICTURES:
            self._pages[self._start + 2 + count] = record
            self._pages[self._start + 1] = count + 1

    def end(self) -> None:
        """Its sample is made."""
        if self._start is not None:
            self._pages[self._start + 1] = 0

    def of_the_dead(self) -> list[list[int]] | None:
        """The records of the samples that processes which live no more were at; None without
        such a process."""
        living = {process.pid for process in active_children()}
        found = None
        for start in range(0, self._workers * SLOT, SLOT):
            process, count, *records = self._pages[start : start + SLOT]
            if process and process not in living:
                found = [*(found or []), records[:count]]
        return found


class Noted(Protocol):
    """Samples whose readers take notes."""

    notes: ReaderNotes
    dataset: DetectionDataset


@contextmanager
def lost_readers_named(samples: Noted | None) -> Iterator[None]:
    """Name the pictures of a reading process that died.

    Of its death PyTorch tells by a RuntimeError, or the main process learns of it from a batch
    whose memory it can no longer fetch.

    Args:
        samples: what the loader reads, `TrainSamples`.

    Raises:
        InputError: a reading process died.
    """
    try:
        yield
    except (RuntimeError, EOFError, OSError) as error:
        lost = None if samples is None else _wait_for_the_dead(samples.notes)
        if samples is None or lost is None:
            raise
        names = [str(samples.dataset[record].path) for records in lost for record in records]
        raise InputError(
            "a process that reads pictures has died",
            where=", ".join(names) or "between two pictures",
            fix="check the picture with: flyweight data check; if the memory ran out, "
            "use fewer workers",
        ) from error


def _wait_for_the_dead(notes: ReaderNotes) -> list[list[int]] | None:
    """A process closes its files shortly before it counts as dead."""
    end = time.monotonic() + PATIENCE_SECONDS
    while (lost := notes.of_the_dead()) is None and time.monotonic() < end:
        time.sleep(0.02)
    return lost
