"""`flyweight train` in several processes, as a user starts and ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from flyweight.data.formats import save_dataset
from flyweight.training.resume import load_state
from flyweight.training.run_folder import RunFolder
from tests.training.conftest import draw_dataset

ROOT = Path(__file__).parents[2]
TIMEOUT = 900
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
FLYWEIGHT = ("-m", "flyweight")
FAULTY = (str(Path(__file__).with_name("faulty_train.py")),)
OPTIONS = (
    "--size", "64", "--width", "0.25", "--epochs", "2", "--batch", "2", "--device", "cpu",
    "--eval-every", "1", "--json",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 training images, 5 for validation, 2 for the test."""
    folder = tmp_path_factory.mktemp("together")
    sizes = {"train": 14, "val": 5, "test": 2}
    splits = {name: draw_dataset(folder, name, count, seed=1) for name, count in sizes.items()}
    return save_dataset(splits, folder / "data", data_format="coco")


def command(data: Path, out: Path, *options: str) -> list[str]:
    return [
        "train", "ssdlite320_mobilenet_v1", "--data", str(data), "--out", str(out), *OPTIONS,
        *options,
    ]  # fmt: skip


def start(arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a group of its own, to be sent Ctrl-C as a terminal does
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str, list[str]]:
    """Exit code, stdout, and the lines of stderr that are Flyweight's."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    lines = [line for line in err.splitlines() if line.startswith(("error", "failed", "training"))]
    return process.returncode, out, lines


def same_weights(ours: Path, theirs: Path) -> bool:
    a, b = (load_state(RunFolder(run).resume).step["ema"] for run in (ours, theirs))
    return all(torch.equal(a[name], b[name]) for name in b)


@pytest.mark.slow
def test_killed_and_started_again_by_torchrun(data: Path, tmp_path: Path) -> None:
    """`--devices` and `torchrun` are the same run, and so is one whose process was killed."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    code, out, _ = end(start([*FLYWEIGHT, *command(data, whole, "--devices", "2")]))
    assert code == 0
    # one object, of the first process, which alone measures the test images
    assert json.loads(out)["test_metrics"]["AP"] is not None
    process = start(
        [*TORCHRUN, "--max-restarts", "1", *FAULTY, *command(data, broken)], FAULT="kill"
    )
    code, out, lines = end(process)
    assert code == 0
    assert [line for line in lines if "another process of the run has ended" in line]
    assert any("started the run again" in text for text in json.loads(out)["notes"])
    assert same_weights(broken, whole)
    rows = [RunFolder(each).read_metrics() for each in (broken, whole)]
    for row in rows[0] + rows[1]:
        del row["images_per_second"]
    assert rows[0] == rows[1]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "hang"])
def test_a_lost_process_ends_the_run(fault: str, data: Path, tmp_path: Path) -> None:
    process = start(
        [*TORCHRUN, *FAULTY, *command(data, tmp_path / "run")], FAULT=fault, SECONDS="60"
    )
    code, out, lines = end(process)
    assert code != 0
    assert out == ""
    assert [line for line in lines if line.startswith("failed")] == [
        line for line in lines if "another process of the run has ended" in line
    ]
    assert len([line for line in lines if line.startswith("failed")]) == 1
    # four steps of six were saved
    state = load_state(tmp_path / "run" / "resume.pt")
    assert (state.epoch, state.batches_done) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "devices"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all(launcher: str, sent: signal.Signals, data: Path, tmp_path: Path) -> None:
    """Ctrl-C reaches every process of the terminal, a termination only the one that is named."""
    prefix = [*TORCHRUN, *FAULTY] if launcher == "torchrun" else [*FAULTY]
    devices = () if launcher == "torchrun" else ("--devices", "2")
    ready = tmp_path / "ready"
    process = start(
        [*prefix, *command(data, tmp_path / "run", *devices)], FAULT="wait", READY=str(ready)
    )
    wait_for(ready.exists)
    kill: Callable[[int, int], None] = os.killpg if sent == signal.SIGINT else os.kill
    kill(process.pid, sent)
    code, out, lines = end(process)
    assert out == ""
    assert code == (130 if launcher == "devices" else 1)
    interrupted = [line for line in lines if "its state is saved" in line]
    assert len(interrupted) == 1
    assert "--resume" in interrupted[0]
    state = load_state(tmp_path / "run" / "resume.pt")
    assert (state.epoch, state.batches_done) == (1, 2)


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.2)


@pytest.mark.slow
def test_bad_input_is_told_once(data: Path, tmp_path: Path) -> None:
    occupied = tmp_path / "run"
    occupied.mkdir()
    (occupied / "resume.pt").touch()
    code, out, lines = end(start([*TORCHRUN, *FLYWEIGHT, *command(data, occupied)]))
    assert (code, out) == (1, "")
    assert len(lines) == 1
    assert "there is a run in this folder already" in lines[0]
