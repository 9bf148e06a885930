"""A run in MLflow (https://mlflow.org/docs/latest/ml/tracking), when it is asked for and installed.

Where it goes is MLflow's own matter: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, MLFLOW_RUN_ID.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically

if TYPE_CHECKING:
    from flyweight.training.run_folder import RunFolder

Tell = Callable[[str], None]

# limits of MLflow's servers: parameters of one request, characters of one value
PARAMETERS_AT_ONCE = 100
LONGEST_VALUE = 500


class MlflowRun:
    """Parameters, figures and files of a training run in an MLflow run.

    A run that the caller has open is used and left open. A resumed training goes on with the
    MLflow run that it began. A server that fails while the training runs is told of once and then
    left alone: hours of training are worth more.

    Args:
        config: the content of `config.yaml`: its values become parameters.
        tell: is told, in a line, when MLflow no longer works.

    Raises:
        InputError: MLflow is not installed, or its server does not answer.
    """

    def __init__(self, folder: RunFolder, config: Mapping[str, Any], *, tell: Tell) -> None:
        try:
            mlflow: Any = importlib.import_module("mlflow")
        except ImportError as error:
            raise InputError(
                "MLflow is not installed", where="recipe field loggers", fix="pip install mlflow"
            ) from error
        self._mlflow = mlflow
        self._tell = tell
        self._finished = self._dead = False
        # requests' errors, which some stores let through, are OSErrors
        self._failures = (mlflow.MlflowException, OSError)
        try:
            self._ours = mlflow.active_run() is None
            self._begin(folder, config)
        except self._failures as error:
            raise InputError(
                f"MLflow does not take the run: {_one_line(error)}",
                where=mlflow.get_tracking_uri(),
                fix="check MLFLOW_TRACKING_URI, or leave mlflow out",
            ) from error

    def _begin(self, folder: RunFolder, config: Mapping[str, Any]) -> None:
        mlflow = self._mlflow
        begun = folder.mlflow.read_text(encoding="utf-8").strip() if folder.mlflow.exists() else ""
        if self._ours:
            mlflow.start_run(run_id=begun or None, run_name=folder.path.name)
        if begun:
            return
        with write_atomically(folder.mlflow) as temporary:
            temporary.write_text(mlflow.active_run().info.run_id, encoding="utf-8")
        values = list(flattened(config))
        for start in range(0, len(values), PARAMETERS_AT_ONCE):
            mlflow.log_params(dict(values[start : start + PARAMETERS_AT_ONCE]))

    def write(self, row: Mapping[str, Any], *, step: int) -> None:
        """Log every finite number of `row`."""
        figures = {
            name: float(value)
            for name, value in row.items()
            if name != "epoch" and isinstance(value, int | float) and math.isfinite(value)
        }
        self._try(partial(self._mlflow.log_metrics, figures, step=step))

    def finish(self, files: Sequence[Path]) -> None:
        """Log `files` as artifacts."""
        self._finished = True
        for path in files:
            self._try(partial(self._mlflow.log_artifact, str(path)))

    def close(self) -> None:
        """End the run, if it was begun here."""
        if self._ours:
            status = "FINISHED" if self._finished else "KILLED"
            self._try(partial(self._mlflow.end_run, status))

    def _try(self, work: Callable[[], object]) -> None:
        if self._dead:
            return
        try:
            work()
        except self._failures as error:
            self._dead = True
            self._tell(f"MLflow takes no more, training goes on without it: {_one_line(error)}")


def flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings as ("recipe.lr", "0.001"), values cut to what MLflow takes."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)[:LONGEST_VALUE]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
