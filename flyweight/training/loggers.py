"""Where the figures of a run go besides `metrics.jsonl`, which the run itself reads back."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from flyweight.core.files import write_atomically, writing_error
from flyweight.training.mlflow_run import MlflowRun, Tell
from flyweight.training.run_folder import RunFolder
from flyweight.training.tensorboard import EventWriter


class Logger(Protocol):
    """Takes the figures of a run. Called in the first process only."""

    def write(self, row: Mapping[str, Any], *, step: int) -> None:
        """Add the line of `metrics.jsonl` of the epoch `step` (from 1)."""
        ...

    def finish(self, files: Sequence[Path]) -> None:
        """The run has come to its end; `files` are its report and its best checkpoint."""
        ...

    def close(self) -> None:
        """Nothing more comes, whether or not the run has come to its end."""
        ...


class Loggers:
    """Several loggers as one."""

    def __init__(self, loggers: Sequence[Logger] = ()) -> None:
        self._loggers = tuple(loggers)

    def write(self, row: Mapping[str, Any], *, step: int) -> None:
        """Hand the epoch's figures to each."""
        for logger in self._loggers:
            logger.write(row, step=step)

    def finish(self, files: Sequence[Path]) -> None:
        """Tell each that the run has come to its end."""
        for logger in self._loggers:
            logger.finish(files)

    def close(self) -> None:
        """Close each."""
        for logger in self._loggers:
            logger.close()


def make_loggers(
    names: Sequence[str],
    folder: RunFolder,
    config: Mapping[str, Any],
    *,
    first_epoch: int,
    tell: Tell,
) -> Loggers:
    """The loggers of a recipe.

    Args:
        names: of `flyweight.training.recipe.LOGGERS`.
        config: the content of `config.yaml`.
        first_epoch: from 1; beyond 1 the run is a resumed one.
        tell: is told, in a line, when a logger no longer works.

    Raises:
        InputError: a logger's package is not installed, or it cannot begin.
    """
    loggers: list[Logger] = []
    for name in dict.fromkeys(names):
        if name == "csv":
            loggers.append(MetricsTable(folder))
        elif name == "tensorboard":
            purge_from = first_epoch if first_epoch > 1 else 0
            loggers.append(EventWriter(folder.path, first_step=purge_from))
        elif name == "mlflow":
            loggers.append(MlflowRun(folder, config, tell=tell))
    return Loggers(loggers)


class MetricsTable:
    """`metrics.csv`: the lines of `metrics.jsonl` as a table, for spreadsheets.

    An epoch that was not evaluated leaves its cells empty.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._columns: list[str] = []

    def write(self, row: Mapping[str, Any], *, step: int) -> None:
        """Add the epoch's line; new columns write the table anew."""
        if not set(row) <= set(self._columns):
            self._write_anew()
            return
        try:
            with self._folder.table.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        except OSError as error:
            raise writing_error(self._folder.table, error) from error

    def _write_anew(self) -> None:
        rows = self._folder.read_metrics()
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        with (
            write_atomically(self._folder.table) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            table = csv.DictWriter(file, self._columns)
            table.writeheader()
            table.writerows(rows)

    def finish(self, files: Sequence[Path]) -> None:
        """Nothing: every line is written when it comes."""

    def close(self) -> None:
        """Nothing."""
