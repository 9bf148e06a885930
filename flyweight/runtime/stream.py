"""Pictures in a stream: reading, detecting and what the caller does with them overlap.

Each of the three has a thread of its own (the caller's is the third), since decoding, networks and
drawing leave Python's lock alone while they work. Between them wait at most `WAITING` frames. A
file waits for the network; a camera does not: frames that come meanwhile are dropped, so that what
is shown is never old.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from flyweight.core.detections import Detections, Predictor
from flyweight.runtime.predictor import DISPLAY_SCORE
from flyweight.runtime.sources import (
    Frame,
    Image,
    Source,
    frames_per_second,
    is_camera,
    is_video,
    iterate_source,
)

# Frames between two stages: one is worked on while the next is made.
WAITING = 2
# How often a thread that waits looks whether it should end, seconds.
PATIENCE = 0.1

T = TypeVar("T")


@dataclass(frozen=True)
class StreamedFrame:
    """One picture with what was found in it.

    Attributes:
        name: as of `flyweight.runtime.sources.Frame`.
        index: of the frame in its source, from 0; a gap is a frame that was dropped.
        seconds: of the frame in a video file, by the file's rate; of any other source, when it was
            read since the stream began.
        image: RGB uint8 `[H, W, 3]`.
        detections: boxes in its pixels.
    """

    name: str
    index: int
    seconds: float
    image: Image
    detections: Detections


class _Lane(Generic[T]):
    """At most `WAITING` things on their way from one thread to another."""

    def __init__(self, stop: threading.Event, *, drop: bool) -> None:
        self._queue: queue.Queue[T] = queue.Queue(WAITING)
        self._stop = stop
        self._drop = drop
        self._ended = threading.Event()
        self.dropped = 0

    def put(self, thing: T) -> None:
        """Wait for room, or with `drop` make it by dropping the oldest."""
        while not self._stop.is_set():
            try:
                self._queue.put(thing, timeout=0 if self._drop else PATIENCE)
                return
            except queue.Full:
                if self._drop:
                    self._drop_oldest()

    def _drop_oldest(self) -> None:
        try:
            self._queue.get_nowait()
            self.dropped += 1
        except queue.Empty:
            pass  # it was taken meanwhile

    def end(self) -> None:
        """Nothing more will come."""
        self._ended.set()

    def __iter__(self) -> Iterator[T]:
        while not self._stop.is_set():
            # Asked first: what is put before the end must still be seen.
            ended = self._ended.is_set()
            try:
                yield self._queue.get(timeout=0 if ended else PATIENCE)
            except queue.Empty:
                if ended:
                    return


class Stream:
    """Detections of a source's pictures, in order; iterate over it once.

    Leaving the loop early, or `close`, ends the threads and lets go of the source.

    Args:
        predictor: anything with `predict`.
        source: see `flyweight.runtime.sources.iterate_source`.
        score: detections from this score on.
        drop: frames that come while the network is busy are dropped; by default those of a camera.

    Attributes:
        read: frames that were read so far.
        dropped: of these, how many were dropped.

    Raises:
        InputError: on iterating, where the source cannot be read.
    """

    def __init__(
        self,
        predictor: Predictor,
        source: Source,
        *,
        score: float = DISPLAY_SCORE,
        drop: bool | None = None,
    ) -> None:
        self.read = 0
        self._predictor = predictor
        self._score = score
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._frames: _Lane[tuple[int, float, Frame]] = _Lane(
            self._stop, drop=is_camera(source) if drop is None else drop
        )
        self._found: _Lane[StreamedFrame] = _Lane(self._stop, drop=False)
        self._threads = [
            threading.Thread(target=self._guard, args=work, daemon=True)
            for work in (
                (lambda: self._read_all(source), self._frames),
                (self._detect, self._found),
            )
        ]

    @property
    def dropped(self) -> int:
        """How many frames were dropped so far."""
        return self._frames.dropped

    def __iter__(self) -> Iterator[StreamedFrame]:
        for thread in self._threads:
            thread.start()
        try:
            yield from self._found
        finally:
            self.close()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the threads; waits for what they are just doing."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _guard(self, work: Callable[[], None], lane: _Lane[object]) -> None:
        """Hand an error of a thread to the caller, after what was found before it."""
        try:
            work()
        except BaseException as error:
            self._error = self._error or error
        finally:
            lane.end()

    def _read_all(self, source: Source) -> None:
        start = time.perf_counter()
        rate = None if is_camera(source) or not is_video(source) else frames_per_second(source)
        for index, frame in enumerate(iterate_source(source)):
            if self._stop.is_set():
                return
            self.read = index + 1
            seconds = time.perf_counter() - start if rate is None else index / rate
            self._frames.put((index, seconds, frame))

    def _detect(self) -> None:
        for index, seconds, frame in self._frames:
            found = self._predictor.predict(frame.image, score=self._score)
            self._found.put(StreamedFrame(frame.name, index, seconds, frame.image, found))
