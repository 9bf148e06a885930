"""Runs of the command line that are killed at random moments of their measured duration."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
LIMIT_S = 240.0


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        code: exit code; -9 of one that was killed.
        seconds: from start to end.
        said: its stdout and stderr.
    """

    code: int
    seconds: float
    said: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    def is_fine(self) -> Ended:
        """Itself; fails where it neither ended well nor was killed."""
        assert self.code in (0, -signal.SIGKILL), self.said
        assert "Traceback" not in self.said, self.said
        return self


class Nursery:
    """Starts commands, see `tests.reliability.nursery`.

    Attributes:
        scratch: their TMPDIR.
        flag: a file; the run that goes on when it appears is killed.
    """

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.scratch, self.flag = folder / "tmp", folder / "kill"
        self._process = process
        self._log = folder / "log.txt"

    def run(self, words: list[str], *, after_s: float | None = None) -> Ended:
        """`flyweight WORDS`, killed after `after_s` if it has not ended by then."""
        return self.order(words, after_s=after_s or LIMIT_S).is_fine()

    def order(self, words: list[str], *, after_s: float, **limits: int) -> Ended:
        """The same, however it ends; `limits` as in `tests.reliability.nursery.run`."""
        files = {"log": str(self._log), "flag": str(self.flag)}
        order = {"words": words, "after_s": after_s, "limits": limits, **files}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def moments(self, words: list[str], kills: int, *, seed: int) -> Moments:
        """Run `words` whole, and be ready to kill such runs."""
        whole = self.run(words)
        assert whole.code == 0, whole.said
        return Moments(whole.seconds, kills, np.random.default_rng(seed))


class Moments:
    """When runs of a kind are killed, and how many were.

    Attributes:
        left: kills to come.
    """

    def __init__(self, whole_s: float, kills: int, rng: np.random.Generator) -> None:
        self.left = kills
        self._whole_s = whole_s
        self._rng = rng

    def draw(self) -> float:
        """Seconds after the start, uniform over the duration of a whole run."""
        return float(self._rng.uniform(0.05, 1.0) * self._whole_s)

    def count(self, ended: Ended) -> None:
        """One kill less, unless the run came to its end before; then they come sooner."""
        self.left -= ended.killed
        if not ended.killed:
            self._whole_s *= 0.9


@contextmanager
def open_nursery(folder: Path) -> Iterator[Nursery]:
    """A nursery with its scratch folder and log in `folder`."""
    (folder / "tmp").mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")}
    command = [sys.executable, "-m", "tests.reliability.nursery"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=pipe, stdout=pipe
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Nursery(process, folder)
        process.kill()
