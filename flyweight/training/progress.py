"""What a user sees while a detector trains: a bar on a terminal, lines in a log. On stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Display(Protocol):
    """Shows a run. Every method returns at once."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def start(self, *, epochs: int, steps: int, done: int) -> None:
        """The run has `steps` steps in `epochs` epochs; `done` were taken before."""
        ...

    def step(self, *, epoch: int, loss: float, lr: float, images_per_second: float) -> None:
        """One step is done."""
        ...

    def evaluating(self, done: int, images: int) -> None:
        """`done` of `images` validation images are through."""
        ...

    def epoch_done(self, row: Mapping[str, Any], best_ap: float | None) -> None:
        """An epoch is over; `row` is its line of `metrics.jsonl`."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...


def make_display(shown: bool | None = None) -> Display:
    """A bar on a terminal, a line every epoch elsewhere, nothing when `shown` is False."""
    if shown is False:
        return Silent()
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines()


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def start(self, *, epochs: int, steps: int, done: int) -> None:
        """Nothing."""

    def step(self, *, epoch: int, loss: float, lr: float, images_per_second: float) -> None:
        """Nothing."""

    def evaluating(self, done: int, images: int) -> None:
        """Nothing."""

    def epoch_done(self, row: Mapping[str, Any], best_ap: float | None) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class Lines(Silent):
    """One line an epoch, at most one every few seconds, for logs and pipes."""

    SECONDS_BETWEEN = 2.0

    def __init__(self) -> None:
        self.epochs = 0
        self.steps = 0
        self.done = 0
        self.first_done = 0
        self.started = time.monotonic()
        self.last_line = float("-inf")

    def start(self, *, epochs: int, steps: int, done: int) -> None:
        """Remember the size of the run."""
        self.epochs, self.steps, self.done, self.first_done = epochs, steps, done, done
        self.started = time.monotonic()

    def step(self, *, epoch: int, loss: float, lr: float, images_per_second: float) -> None:
        """Count it."""
        self.done += 1

    def epoch_done(self, row: Mapping[str, Any], best_ap: float | None) -> None:
        """Print a line when AP was measured, or when the last line is some seconds old."""
        now = time.monotonic()
        finished = row["epoch"] == self.epochs
        if row.get("AP") is None and not finished and now - self.last_line < self.SECONDS_BETWEEN:
            return
        self.last_line = now
        left = (now - self.started) / max(1, self.done - self.first_done) * (self.steps - self.done)
        self.note(f"{describe_epoch(row, self.epochs, best_ap)}  left {_clock(left)}")

    def note(self, text: str) -> None:
        """Print it."""
        print(text, file=sys.stderr, flush=True)


class Bar(Silent):
    """A bar over all steps of the run."""

    def __init__(self, console: Console) -> None:
        self.epochs = 0
        self.best = ""
        self.figures = ""
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        self.task = self.bar.add_task("training", total=None, figures="")

    def __enter__(self) -> Bar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def start(self, *, epochs: int, steps: int, done: int) -> None:
        """Set the bar's length."""
        self.epochs = epochs
        self.bar.update(self.task, total=steps, completed=done)

    def step(self, *, epoch: int, loss: float, lr: float, images_per_second: float) -> None:
        """Move the bar."""
        self.figures = f"loss {loss:.3f}  lr {lr:.1e}  {images_per_second:.1f} images/s{self.best}"
        self.bar.update(
            self.task,
            advance=1,
            description=f"epoch {epoch}/{self.epochs}",
            figures=self.figures,
        )

    def evaluating(self, done: int, images: int) -> None:
        """Say that the pause is an evaluation."""
        figures = self.figures if done >= images else f"evaluating {done}/{images} images"
        self.bar.update(self.task, figures=figures)

    def epoch_done(self, row: Mapping[str, Any], best_ap: float | None) -> None:
        """Keep the evaluations as lines above the bar."""
        if best_ap is not None:
            self.best = f"  best AP {best_ap:.3f}"
        if row.get("AP") is not None:
            self.bar.console.print(describe_epoch(row, self.epochs, best_ap), highlight=False)

    def note(self, text: str) -> None:
        """Print it above the bar."""
        self.bar.console.print(text, highlight=False, soft_wrap=True)


def describe_epoch(row: Mapping[str, Any], epochs: int, best_ap: float | None) -> str:
    """One line about an epoch."""
    text = (
        f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.3f}  lr {row['lr']:.1e}"
        f"  {row['images_per_second']:.1f} images/s"
    )
    if row.get("AP") is not None:
        text += f"  AP {row['AP']:.3f}  AP50 {row['AP50']:.3f}"
    if best_ap is not None:
        text += f"  best AP {best_ap:.3f}"
    return text


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
