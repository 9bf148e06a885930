"""The folder of a run: which file is what, and how each is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically, writing_error
from flyweight.core.yaml_file import read_yaml


class RunFolder:
    """Paths and small files of one run (`config.yaml`, `metrics.jsonl`).

    Attributes:
        bad_batch: what a loss that is no number came from, see `flyweight.training.bad_batch`.
        table: `metrics.csv`, see `flyweight.training.loggers`.
        mlflow: the id of the run in MLflow, to go on with.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.best = path / "best.safetensors"
        self.last = path / "last.safetensors"
        self.resume = path / "resume.pt"
        self.report = path / "report.html"
        self.table = path / "metrics.csv"
        self.bad_batch = path / "bad_batch.safetensors"
        self.bad_pictures = path / "bad_batch.png"
        self.mlflow = path / "mlflow_run.txt"

    def start(self, *, overwrite: bool) -> None:
        """Make the folder for a new run.

        Raises:
            InputError: there is a run in it already, or it cannot be made.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError("this is not a folder", where=self.path, fix="give another --out")
        old = [self.config, self.metrics, self.best, self.last, self.resume, self.report]
        old += [self.table, self.bad_batch, self.bad_pictures, self.mlflow]
        old += self.path.glob("events.out.tfevents.*")
        # what a start that failed left behind (a config, an empty events file) is no run
        runs = (self.best, self.last, self.resume)
        if not overwrite and any(path.exists() for path in runs):
            raise InputError(
                "there is a run in this folder already",
                where=self.path,
                fix="add --resume to go on with it, or give another --out",
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for path in old:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise writing_error(self.path, error) from error

    def write_config(self, content: Mapping[str, Any]) -> None:
        """Write `config.yaml`."""
        with write_atomically(self.config) as temporary:
            text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
            temporary.write_text(text, encoding="utf-8")

    def saved_config(self) -> dict[str, Any]:
        """`recipe` and `model` of a run to go on with; the inverse of `write_config`.

        Raises:
            InputError: there is no run, or its config cannot be read.
        """
        if not self.config.is_file() or not self.resume.is_file():
            raise InputError(
                "there is no run to resume in this folder",
                where=self.path,
                fix="start it without --resume",
            )
        try:
            content = read_yaml(self.config)
            return {"recipe": dict(content["recipe"]), "model": dict(content["model"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                "the run's config cannot be read", where=self.config, fix="start the run anew"
            ) from error

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add one epoch's line to `metrics.jsonl`."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(dict(row)) + "\n")
        except OSError as error:
            raise writing_error(self.metrics, error) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """All whole lines of `metrics.jsonl`; a line cut by a kill is left out."""
        if not self.metrics.exists():
            return []
        rows = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    def keep_metrics_before(self, epoch: int) -> None:
        """Drop the lines of `epoch` (from 1) and later: a resumed run writes them again."""
        rows = [row for row in self.read_metrics() if row["epoch"] < epoch]
        with write_atomically(self.metrics) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
