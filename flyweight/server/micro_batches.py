"""Pictures that wait for the network, and the threads that run it over several at once.

One thread for each predictor: an OpenVINO request is used by one thread at a time. A picture that
is ready waits at most `deadline_s`, and only while others are on their way (being decoded): alone
it runs at once.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from flyweight.core.detections import Detections
from flyweight.runtime.predictor import Predictor, Prepared

# How much the newest run counts in the mean time of a picture.
NEWEST = 0.1


@dataclass(frozen=True)
class Found:
    """What became of one picture.

    Attributes:
        detections: boxes in the picture's own pixels.
        size_hw: the picture's height and width.
        decode_s, wait_s, detect_s: decoding with resizing; waiting for the network; the run that
            it was in, with all of the run's pictures.
        batch: the number of pictures of that run.
    """

    detections: Detections
    size_hw: tuple[int, int]
    decode_s: float
    wait_s: float
    detect_s: float
    batch: int


@dataclass(frozen=True)
class Ready:
    """A picture that waits.

    Attributes:
        future: of its `Found`; cancelled where nobody waits any longer.
        since: when it was ready, of `time.perf_counter`.
    """

    prepared: Prepared
    score: float
    decode_s: float
    future: Future[Found]
    since: float = field(default_factory=time.perf_counter)


class MicroBatches:
    """The network's threads; they start with the first picture.

    Args:
        predictors: the same file, opened once for each thread.
        max_batch: pictures of one run, where the file leaves it open.
        deadline_s: see the module.
        on_run: called with each run's number of pictures and seconds.
    """

    def __init__(
        self,
        predictors: Sequence[Predictor],
        *,
        max_batch: int,
        deadline_s: float,
        on_run: Callable[[int, float], None],
    ) -> None:
        self.max_batch = predictors[0].session.batch or max_batch
        self.picture_s = 0.01
        self._predictors = predictors
        self._deadline_s = deadline_s
        self._on_run = on_run
        self._ready: deque[Ready] = deque()
        self._coming = 0
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()

    def warm_up(self) -> None:
        """Run one picture, and a full batch, through every predictor."""
        for predictor in self._predictors:
            grey = predictor.prepare(np.full((*predictor.session.size_hw, 3), 114, np.uint8))
            for count in {1, self.max_batch}:
                predictor.run([grey] * count, scores=[1.0] * count)

    def expect(self, count: int) -> None:
        """`count` pictures are on their way; each is `put`, or is expected no more (negative)."""
        with self._changed:
            self._coming += count
            self._changed.notify_all()

    def put(self, ready: Ready) -> None:
        """An expected picture is there."""
        with self._changed:
            self._coming -= 1
            self._ready.append(ready)
            if not self._threads:
                self._start()
            self._changed.notify_all()

    def close(self, *, wait_s: float) -> None:
        """Finish what waits and end the threads; leave behind what takes longer than `wait_s`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(wait_s)

    def _start(self) -> None:
        for predictor in self._predictors:
            name = f"network-{len(self._threads)}"
            # A daemon, so that an application that never closes us can still end.
            thread = threading.Thread(target=self._work, args=(predictor,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self, predictor: Predictor) -> None:
        while batch := self._next_batch():
            # What was cancelled is skipped; what runs can no longer be cancelled.
            wanted = [each for each in batch if each.future.set_running_or_notify_cancel()]
            if wanted:
                self._run(predictor, wanted)

    def _next_batch(self) -> list[Ready]:
        """The oldest pictures that wait; none when closed and empty."""
        with self._changed:
            while True:
                if not self._ready:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                left_s = self._ready[0].since + self._deadline_s - time.perf_counter()
                more = self._coming > 0 and len(self._ready) < self.max_batch
                if not more or left_s <= 0 or self._closed:
                    break
                self._changed.wait(left_s)
            # What waits is shared among the threads: one full batch would leave the others idle.
            share = math.ceil(len(self._ready) / len(self._predictors))
            return [self._ready.popleft() for _ in range(min(share, self.max_batch))]

    def _run(self, predictor: Predictor, batch: list[Ready]) -> None:
        start = time.perf_counter()
        try:
            found = predictor.run(
                [each.prepared for each in batch], scores=[each.score for each in batch]
            )
        # Runtimes raise classes of their own; the pictures' requests are told, the thread lives on.
        except Exception as error:
            for each in batch:
                each.future.set_exception(error)
            return
        seconds = time.perf_counter() - start
        self.picture_s += NEWEST * (seconds / len(batch) - self.picture_s)
        self._on_run(len(batch), seconds)
        for each, detections in zip(batch, found, strict=True):
            size_hw, wait_s = each.prepared.size_hw, start - each.since
            each.future.set_result(
                Found(detections, size_hw, each.decode_s, wait_s, seconds, len(batch))
            )
