"""Ctrl-C ends a run between two steps, so that what is saved is whole."""

from __future__ import annotations

import os
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


class StopError(Exception):
    """The run was asked to stop, and has come to a place where it can be left."""


class StopRequest:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.made = False
        # torchrun passes on the Ctrl-C that the terminal has sent to every process already: the
        # second one is no insistence, and torchrun itself kills who does not end
        self._insistence = "TORCHELASTIC_RUN_ID" not in os.environ

    def make(self, signal_number: int, _: FrameType | None) -> Any:
        """Signal handler: ask once, and insist by asking again."""
        if self.made and signal_number == signal.SIGINT and self._insistence:
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


def ignore_termination() -> None:
    """From now on SIGTERM does nothing: for a process that ends anyway, and has a last word to say
    before a launcher that ends all processes cuts it short."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
