"""Which run in a folder a restart by torchrun may go on with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from flyweight.data.formats import save_dataset
from flyweight.data.records import DetectionDataset
from flyweight.models.detectors.detector import Detector
from flyweight.training.elastic import goes_on, launch_id
from flyweight.training.loop import train
from flyweight.training.recipe import Recipe
from flyweight.training.run import train_on_folder
from flyweight.training.run_folder import RunFolder


def launch(monkeypatch: pytest.MonkeyPatch, run_id: str, *, restarts: int = 0) -> None:
    """The environment of one process under torchrun."""
    for name, value in {
        "TORCHELASTIC_RUN_ID": run_id, "TORCHELASTIC_RESTART_COUNT": str(restarts),
        "LOCAL_WORLD_SIZE": "1", "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


def test_only_the_run_of_the_same_launch(
    monkeypatch: pytest.MonkeyPatch,
    new_detector: Callable[..., Detector],
    train_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    folder = RunFolder(tmp_path)
    launch(monkeypatch, "one", restarts=1)
    assert not goes_on(folder)
    launch(monkeypatch, "one")
    recipe = replace(quick, epochs=1)
    train(new_detector(), train_set, None, recipe, tmp_path, progress=False)
    assert yaml.safe_load(folder.config.read_text())["launch"] == "one"
    # not a restart: going on has to be asked for
    assert not goes_on(folder)
    launch(monkeypatch, "one", restarts=2)
    assert goes_on(folder)
    launch(monkeypatch, "two", restarts=1)
    assert not goes_on(folder)
    folder.config.write_text("half: [written")
    launch(monkeypatch, "one", restarts=1)
    assert not goes_on(folder)


def test_a_launch_without_a_name_is_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert launch_id() is None
    launch(monkeypatch, "none")
    first = launch_id()
    assert first is not None
    assert "process" in first
    monkeypatch.setattr("os.getppid", lambda: 7)
    assert launch_id() != first


def test_a_restart_needs_no_flag(
    monkeypatch: pytest.MonkeyPatch,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    tmp_path: Path,
) -> None:
    data = save_dataset({"train": train_set, "val": val_set}, tmp_path / "data", data_format="coco")
    told: list[str] = []
    for restarts in (0, 1):
        launch(monkeypatch, "one", restarts=restarts)
        # what would start anew, goes on
        run = train_on_folder(
            "ssdlite320_mobilenet_v1", data, tmp_path / "run", size=64, width=0.25, epochs=1,
            batch_size=4, device="cpu", overwrite=True, progress=False, note=told.append,
        )  # fmt: skip
        if not restarts:
            before = run.checkpoint.stat().st_mtime_ns
    assert run.checkpoint.stat().st_mtime_ns == before
    assert told[-1] == "torchrun has started the run again: it goes on from the last saved state"
