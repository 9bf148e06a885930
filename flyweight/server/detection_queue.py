"""From the bytes of pictures to what is in them: a bounded queue, decoders, the network."""

from __future__ import annotations

import asyncio
import functools
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus

from flyweight.core.errors import InputError
from flyweight.runtime.predictor import Predictor
from flyweight.server.metrics import ServerMetrics
from flyweight.server.micro_batches import Found, MicroBatches, Ready
from flyweight.server.pictures import check_picture, not_a_picture
from flyweight.server.refusal import RefusalError
from flyweight.server.settings import ServerSettings

LONGEST_RETRY_S = 60


class DetectionQueue:
    """Takes pictures of all requests, at most `settings.queue` at a time.

    Args:
        predictors: the same file, opened once for each thread that runs the network.
    """

    def __init__(
        self, predictors: Sequence[Predictor], settings: ServerSettings, metrics: ServerMetrics
    ) -> None:
        self.settings = settings
        self._predictor = predictors[0]
        self._metrics = metrics
        self._batches = MicroBatches(
            predictors,
            max_batch=settings.max_batch,
            deadline_s=settings.deadline_ms / 1000,
            on_run=metrics.observe_run,
        )
        self._decoders = ThreadPoolExecutor(settings.decoders, thread_name_prefix="decoder")
        self._held = 0
        self._lock = threading.Lock()
        metrics.watch_queue(lambda: self._held)

    async def detect(self, pictures: Sequence[bytes], *, score: float) -> list[Found]:
        """What is in each picture, in their order.

        Args:
            pictures: files' bytes.
            score: 0 to 1, what detections have at least.

        Raises:
            RefusalError: the queue is full, or a picture cannot be used.
        """
        self._reserve(len(pictures))
        futures: list[Future[Found]] = [Future() for _ in pictures]
        for index, (data, future) in enumerate(zip(pictures, futures, strict=True)):
            future.add_done_callback(self._release)
            work = functools.partial(self._prepare, data, index, score, future)
            # Not the executor's future: what cannot be cancelled any more would look cancelled.
            self._decoders.submit(work)
        try:
            return await asyncio.gather(*map(asyncio.wrap_future, futures))
        finally:
            for future in futures:
                future.cancel()

    def warm_up(self) -> None:
        """One run of each size at which runtimes plan their memory, so that no client waits."""
        self._batches.warm_up()

    def close(self, *, wait_s: float) -> None:
        """Finish what is in the queue, within about `wait_s`."""
        self._decoders.shutdown()
        self._batches.close(wait_s=wait_s)

    def _reserve(self, count: int) -> None:
        with self._lock:
            if self._held + count > self.settings.queue:
                wait_s = math.ceil(self._held * self._batches.picture_s)
                raise RefusalError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "queue-full",
                    f"{self._held} pictures are being worked on, of at most {self.settings.queue}",
                    retry_after_s=min(max(1, wait_s), LONGEST_RETRY_S),
                )
            self._held += count
        self._batches.expect(count)

    def _release(self, _: Future[Found]) -> None:
        with self._lock:
            self._held -= 1

    def _prepare(self, data: bytes, index: int, score: float, future: Future[Found]) -> None:
        """In a decoder's thread: to the network with it, or why not."""
        if future.cancelled():
            self._batches.expect(-1)
            return
        start = time.perf_counter()
        try:
            check_picture(data, index, max_pixels=self.settings.max_pixels)
            prepared = self._predictor.prepare(data)
        except Exception as error:
            self._batches.expect(-1)
            if isinstance(error, InputError):
                error = not_a_picture(error.what, index)
            # Cancelled in the meantime, it has no place for an error.
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
            return
        seconds = time.perf_counter() - start
        self._metrics.decode_seconds.observe(seconds)
        self._batches.put(Ready(prepared, score, seconds, future))
