"""Ctrl-C ends a run between two steps, so that what is saved is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any


class TrainingInterrupted(KeyboardInterrupt):
    """A run was stopped by Ctrl-C or a termination signal; its state is saved.

    A KeyboardInterrupt, so that no `except Exception` on the way swallows it.

    Attributes:
        run_dir: the folder of the run.
        exit_code: what a shell reports for a program ended by Ctrl-C.
    """

    exit_code = 130

    def __init__(self, run_dir: Path, *, epoch: int, resume_command: str) -> None:
        self.run_dir = run_dir
        self.resume_command = resume_command
        super().__init__(
            f"training was interrupted in epoch {epoch}, its state is saved ({run_dir}); "
            f"resume with: {resume_command}"
        )


class StopRequest:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.made = False

    def make(self, signal_number: int, _: FrameType | None) -> Any:
        """Signal handler: ask once, and insist by asking again."""
        if self.made and signal_number == signal.SIGINT:
            raise KeyboardInterrupt
        self.made = True


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request to stop, within the block.

    A second SIGINT raises KeyboardInterrupt at once. Outside the main thread, where Python allows
    no handlers, signals keep their meaning.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, request.make) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
