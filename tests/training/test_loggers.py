"""Where figures go: the table against `csv`, MLflow against a stand-in that records its calls."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flyweight.core.errors import InputError
from flyweight.data.records import DetectionDataset
from flyweight.models.detectors.detector import Detector
from flyweight.training import loop
from flyweight.training.interrupt import StopError, TrainingInterrupted
from flyweight.training.loggers import MetricsTable
from flyweight.training.loop import train
from flyweight.training.mlflow_run import flattened
from flyweight.training.recipe import Recipe
from flyweight.training.run_folder import RunFolder
from flyweight.training.tensorboard import EventWriter

NewDetector = Callable[..., Detector]


def table_of(folder: RunFolder) -> list[dict[str, str]]:
    with folder.table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_is_the_lines(tmp_path: Path) -> None:
    """Columns that come later are empty above; a resumed run drops what it writes again."""
    folder = RunFolder(tmp_path)
    table = MetricsTable(folder)
    rows: list[dict[str, Any]] = [
        {"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 1.5, "AP": 0.25},
        {"epoch": 3, "loss": 1.0}, {"epoch": 4, "loss": 0.5, "AP": None},
    ]  # fmt: skip
    for row in rows:
        folder.append_metrics(row)
        table.write(row, step=row["epoch"])
    assert table_of(folder) == [
        {"epoch": "1", "loss": "2.5", "AP": ""}, {"epoch": "2", "loss": "1.5", "AP": "0.25"},
        {"epoch": "3", "loss": "1.0", "AP": ""}, {"epoch": "4", "loss": "0.5", "AP": ""},
    ]  # fmt: skip
    folder.keep_metrics_before(3)
    folder.append_metrics(rows[2])
    MetricsTable(folder).write(rows[2], step=3)
    assert [row["epoch"] for row in table_of(folder)] == ["1", "2", "3"]


class FakeMlflow(ModuleType):
    """The calls of `mlflow` that a run makes, written down."""

    class MlflowException(Exception):  # noqa: N818
        """A server's refusal."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.run: str | None = None
        self.params: dict[str, str] = {}
        self.metrics: list[tuple[dict[str, float], int]] = []
        self.artifacts: list[str] = []
        self.calls: list[str] = []
        self.fails: set[str] = set()

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise self.MlflowException(f"{name} was\nrefused")

    def get_tracking_uri(self) -> str:
        return "sqlite:///there"

    def active_run(self) -> Any:
        return self.run and SimpleNamespace(info=SimpleNamespace(run_id=self.run))

    def start_run(self, run_id: str | None = None, run_name: str | None = None) -> None:
        self._called(f"start {run_id or 'new'} {run_name}")
        self.run = run_id or "run-1"

    def log_params(self, params: dict[str, str]) -> None:
        self._called("params")
        assert len(params) <= 100
        assert not params.keys() & self.params.keys(), "MLflow's parameters do not change"
        self.params |= params

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self._called("metrics")
        self.metrics.append((metrics, step))

    def log_artifact(self, path: str) -> None:
        self._called("artifact")
        self.artifacts.append(Path(path).name)

    def end_run(self, status: str) -> None:
        self._called(f"end {status}")
        self.run = None


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> FakeMlflow:
    fake = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    return fake


@pytest.fixture
def logged(quick: Recipe) -> Recipe:
    return replace(quick, loggers=("mlflow",))


def test_mlflow_gets_parameters_figures_and_files(
    mlflow: FakeMlflow,
    new_detector: NewDetector,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    logged: Recipe,
    tmp_path: Path,
) -> None:
    run = tmp_path / "birds"
    train(new_detector(), train_set, val_set, logged, run, progress=False)
    assert mlflow.calls[0] == "start new birds"
    assert mlflow.calls[-1] == "end FINISHED"
    assert mlflow.params["recipe.batch_size"] == "4"
    assert mlflow.params["data.train.images"] == "14"
    rows = RunFolder(run).read_metrics()
    assert [step for _, step in mlflow.metrics] == [1, 2]
    for (figures, _), row in zip(mlflow.metrics, rows, strict=True):
        assert figures == {name: value for name, value in row.items() if name != "epoch"}
    assert mlflow.artifacts == ["report.html", "best.safetensors"]
    # chosen alone: no table, no events
    assert not list(run.glob("metrics.csv"))
    assert not list(run.glob("events*"))


def test_a_resumed_training_is_one_mlflow_run(
    monkeypatch: pytest.MonkeyPatch,
    mlflow: FakeMlflow,
    new_detector: NewDetector,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    logged: Recipe,
    tmp_path: Path,
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise StopError

    with monkeypatch.context() as patch, pytest.raises(TrainingInterrupted):
        patch.setattr(loop, "evaluate_together", stop)
        train(new_detector(), train_set, val_set, logged, tmp_path, progress=False)
    assert mlflow.calls[-1] == "end KILLED"
    train(new_detector(), train_set, val_set, logged, tmp_path, resume=True, progress=False)
    starts = [call for call in mlflow.calls if call.startswith("start")]
    assert starts == [f"start new {tmp_path.name}", f"start run-1 {tmp_path.name}"]
    assert mlflow.calls[-1] == "end FINISHED"
    assert [step for _, step in mlflow.metrics] == [1, 2]


def test_the_callers_own_mlflow_run_is_left_open(
    mlflow: FakeMlflow,
    new_detector: NewDetector,
    train_set: DetectionDataset,
    logged: Recipe,
    tmp_path: Path,
) -> None:
    mlflow.run = "theirs"
    train(new_detector(), train_set, None, logged, tmp_path, progress=False)
    assert mlflow.run == "theirs"
    assert mlflow.metrics
    assert not [call for call in mlflow.calls if call.startswith(("start", "end"))]


def test_a_server_that_fails_ends_no_training(
    mlflow: FakeMlflow,
    new_detector: NewDetector,
    train_set: DetectionDataset,
    logged: Recipe,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mlflow.fails = {"metrics"}
    assert train(new_detector(), train_set, None, logged, tmp_path).epochs == 2
    told = [line for line in capsys.readouterr().err.splitlines() if "MLflow" in line]
    assert told == ["MLflow takes no more, training goes on without it: metrics was refused"]
    assert mlflow.calls.count("metrics") == 1


def test_no_run_is_begun_without_mlflow(
    monkeypatch: pytest.MonkeyPatch,
    mlflow: FakeMlflow,
    new_detector: NewDetector,
    train_set: DetectionDataset,
    logged: Recipe,
    tmp_path: Path,
) -> None:
    mlflow.fails = {"params"}
    with pytest.raises(InputError, match=r"params was refused \(sqlite:///there\)"):
        train(new_detector(), train_set, None, logged, tmp_path, progress=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match="pip install mlflow"):
        train(new_detector(), train_set, None, logged, tmp_path, progress=False)
    # nothing stands in the way of the next try
    recipe = replace(logged, loggers=(), epochs=1)
    train(new_detector(), train_set, None, recipe, tmp_path, progress=False)


def test_unknown_loggers_are_refused() -> None:
    with pytest.raises(InputError, match=r"unknown logger 'wandb'.*csv, tensorboard, mlflow"):
        Recipe(loggers=("csv", "wandb"))
    recipe = Recipe(loggers=("mlflow",))
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_nested_settings_become_parameters() -> None:
    content = {"recipe": {"lr": 0.1, "steps": [1, 2]}, "data": {"val": None}, "long": "x" * 900}
    assert dict(flattened(content)) == {
        "recipe.lr": "0.1", "recipe.steps": "[1, 2]", "data.val": "None", "long": "x" * 500,
    }  # fmt: skip


def test_tensorboard_is_optional(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    writer = EventWriter(tmp_path)
    writer.write({"epoch": 1, "loss": 1.0}, step=1)
    writer.finish([])
    writer.close()
    assert not list(tmp_path.iterdir())
