"""A teacher that writes down what it is shown, in a file that all processes append to."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flyweight.core.detections import Detections
from flyweight.labeling.labeler import Labeler
from flyweight.labeling.teacher import NamedTeacher
from flyweight.labeling.views import make_views
from tests.labeling.conftest import CLASSES, ColourTeacher


def nothing(digest: str) -> None:
    """What a teacher does after a look."""


@dataclass
class WritingTeacher:
    """A `ColourTeacher` that writes every picture's digest into `log`, and then does `act`."""

    log: Path
    act: Callable[[str], None] = nothing
    class_names: tuple[str, ...] = CLASSES

    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """See `flyweight.labeling.teacher.Teacher`."""
        for image in images:
            with self.log.open("a") as file:
                file.write(digest_of(image) + "\n")
            self.act(digest_of(image))
        return ColourTeacher().predict_batch(images)


def digest_of(image: np.ndarray) -> str:
    """Of RGB uint8 `[H, W, 3]`, hexadecimal."""
    return hashlib.sha256(image.tobytes()).hexdigest()


def labeler_of(log: Path, act: Callable[[str], None] = nothing) -> Labeler:
    """One view, so that a picture is shown once."""
    named = NamedTeacher("teacher", "0" * 64, WritingTeacher(log, act), np.arange(2))
    return Labeler([named], make_views([1.0], flip=False))


def no_teachers() -> Labeler:
    """Another machine, other files."""
    return Labeler([], [])


def kill_once(at: str, sentinel: Path, digest: str) -> None:
    """SIGKILL to the own process at a picture, the first time."""
    if digest == at and not sentinel.exists():
        sentinel.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def kill_at(at: str, digest: str) -> None:
    """SIGKILL to the own process at a picture, every time."""
    if digest == at:
        os.kill(os.getpid(), signal.SIGKILL)


def kill_driver(log: Path, looks: int, driver: int, worker: Path, digest: str) -> None:
    """SIGKILL to another process after so many looks, and none after it; tells `worker` the own."""
    if len(log.read_text().split()) == looks:
        worker.write_text(str(os.getpid()))
        os.kill(driver, signal.SIGKILL)
        time.sleep(600)


def fill_disk(at: str, digest: str) -> None:
    """From a picture on nothing can be written."""

    def fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if digest == at:
        os.fsync = fsync  # type: ignore[assignment]
