"""What a verb says and where: the result on stdout, everything else on stderr.

With `--json` the result is exactly one JSON object. Libraries that print to stdout on their own
are sent to stderr, so that a pipe into `jq` never breaks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from flyweight.core.printable import printable_json, printable_output

if TYPE_CHECKING:
    from rich.console import Console

Render = Callable[["Console"], None]


def note(text: str) -> None:
    """A line for the person at the terminal, on stderr: never part of the result."""
    print(printable_output(text), file=sys.stderr, flush=True)


@contextlib.contextmanager
def result(*, as_json: bool) -> Iterator[Callable[[Mapping[str, Any], Render], None]]:
    """Within the block stdout is closed to everybody; the yielded function shows the result.

    It takes the result as a mapping and a function that draws it on a rich console. What it is
    given is shown when the block ends well, so that a failure leaves stdout empty.
    """
    shown: list[tuple[Mapping[str, Any], Render]] = []
    with _stdout_to_stderr():
        yield lambda content, render: shown.append((content, render))
    for content, render in shown:
        if as_json:
            text = json.dumps(plain(content), ensure_ascii=False, allow_nan=False)
            sys.stdout.write(printable_json(text) + "\n")
        else:
            from rich.console import Console

            # Names are nobody's markup.
            render(
                Console(
                    file=cast(TextIO, Printable(sys.stdout)),
                    highlight=False,
                    markup=False,
                    soft_wrap=not sys.stdout.isatty(),
                )
            )
        sys.stdout.flush()


class Printable:
    """A stream to a terminal that lets colours through, and no other sequence."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(printable_output(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Python's stdout and, where there is one, the process' own, which native libraries use."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ValueError):
            if sys.stdout.fileno() == 1 and sys.stderr.fileno() == 2:
                sys.stdout.flush()
                saved = os.dup(1)
                stack.callback(os.close, saved)
                stack.callback(os.dup2, saved, 1)
                os.dup2(2, 1)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def plain(value: Any) -> Any:
    """`value` as JSON has it: dataclasses, paths and numpy as plain values, NaN as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextlib.contextmanager
def progress_bar(text: str, *, unit: str = "images") -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while a person looks on; yields a function of (done, total)."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def figure(value: float | None, *, digits: int = 3) -> str:
    """A figure for a table; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
