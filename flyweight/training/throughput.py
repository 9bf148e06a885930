"""How many images a run trains on in a second."""

from __future__ import annotations

import time


class Throughput:
    """Counts images and seconds of training; evaluation and writing are left out.

    Attributes:
        epoch: images per second of the last whole epoch.
    """

    def __init__(self) -> None:
        self.epoch = 0.0
        self._images, self._seconds = 0, 0.0
        self._epoch_images, self._started = 0, time.perf_counter()

    def start_epoch(self) -> None:
        """Begin an epoch, or the rest of one."""
        self._epoch_images, self._started = 0, time.perf_counter()

    def add(self, images: int) -> float:
        """Count the images of a step; returns the images per second since `start_epoch`."""
        self._epoch_images += images
        return self._epoch_images / self._elapsed()

    def end_epoch(self) -> None:
        """Take the epoch into the run's figures."""
        seconds = self._elapsed()
        self.epoch = self._epoch_images / seconds
        self._images += self._epoch_images
        self._seconds += seconds

    @property
    def whole(self) -> float:
        """Images per second over all epochs."""
        return self._images / max(self._seconds, 1e-9)

    def _elapsed(self) -> float:
        return max(time.perf_counter() - self._started, 1e-9)
