from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flyweight.core.errors import InputError
from flyweight.data.records import DetectionDataset
from flyweight.models.detectors import checkpoint
from flyweight.models.detectors.detector import Detector
from flyweight.training import loop
from flyweight.training.interrupt import TrainingInterrupted
from flyweight.training.loop import train
from flyweight.training.recipe import Recipe
from flyweight.training.resume import load_state
from flyweight.training.step import TrainingStep

NewDetector = Callable[..., Detector]


def equal(ours: Detector, theirs: Detector) -> bool:
    a, b = ours.state_dict(), theirs.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Send Ctrl-C to this process while the `step`-th step (from 0) is computed."""
    original = TrainingStep.__call__

    def call(self: TrainingStep, batch: Any, number: int) -> Any:
        if number == step:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, batch, number)

    monkeypatch.setattr(TrainingStep, "__call__", call)


@pytest.fixture(scope="module")
def uninterrupted(
    train_set: DetectionDataset, val_set: DetectionDataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Detector, Path]:
    """The detector and the folder of a run that was left alone."""
    from tests.training.conftest import tiny_detector

    torch.set_num_threads(1)
    detector = tiny_detector()
    folder = tmp_path_factory.mktemp("whole")
    recipe = Recipe(epochs=2, batch_size=4, device="cpu", warmup_epochs=0.5, eval_every=2)
    train(detector, train_set, val_set, recipe, folder, progress=False)
    return detector, folder


def same_run(folder: Path, whole: Path) -> None:
    """Both folders hold the same weights and the same losses, to the last bit."""
    for name in ("best.safetensors", "last.safetensors"):
        ours, theirs = checkpoint.load(folder / name), checkpoint.load(whole / name)
        assert equal(ours, theirs)
        assert ours.manifest() == theirs.manifest()
    rows = [loop.RunFolder(each).read_metrics() for each in (folder, whole)]
    for row in rows[0] + rows[1]:
        del row["images_per_second"]
    assert rows[0] == rows[1]


# steps 0 to 5: in mid-epoch, the last of an epoch, the last of all (its evaluation follows)
@pytest.mark.parametrize("step", [1, 2, 5])
def test_interrupted_and_resumed_is_uninterrupted(
    step: int,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: tuple[Detector, Path],
    new_detector: NewDetector,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    whole, whole_dir = uninterrupted
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(TrainingInterrupted, match="run it --resume") as caught:
            train(
                new_detector(), train_set, val_set, quick, tmp_path,
                progress=False, resume_command="run it --resume",
            )  # fmt: skip
    assert isinstance(caught.value, KeyboardInterrupt)
    state = load_state(tmp_path / "resume.pt")
    assert (state.epoch, state.batches_done) == (step // 3, step % 3 + 1)
    # other first weights: all must come from the file
    resumed = new_detector(seed=9)
    result = train(resumed, train_set, val_set, quick, tmp_path, resume=True, progress=False)
    assert result.epochs == 2
    assert equal(resumed, whole)
    same_run(tmp_path, whole_dir)


def test_stopped_during_evaluation(
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: tuple[Detector, Path],
    new_detector: NewDetector,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    original = loop.evaluate_together

    def evaluate(*args: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate_together", evaluate)
        with pytest.raises(TrainingInterrupted):
            train(new_detector(), train_set, val_set, quick, tmp_path, progress=False)
    assert not (tmp_path / "best.safetensors").exists()
    train(new_detector(), train_set, val_set, quick, tmp_path, resume=True, progress=False)
    same_run(tmp_path, uninterrupted[1])


def test_sgd_resumes_alike(
    monkeypatch: pytest.MonkeyPatch,
    new_detector: NewDetector,
    train_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    recipe = replace(quick, optimizer="sgd", lr=0.01, schedule="steps", epochs=2, ema_decay=0.0)
    whole, parts = new_detector(), new_detector()
    train(whole, train_set, None, recipe, tmp_path / "whole", progress=False)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(TrainingInterrupted):
            train(parts, train_set, None, recipe, tmp_path / "parts", progress=False)
    parts = new_detector()
    train(parts, train_set, None, recipe, tmp_path / "parts", resume=True, progress=False)
    assert equal(parts, whole)
    # without averaging the checkpoint is the last step's weights
    assert equal(checkpoint.load(tmp_path / "parts" / "best.safetensors"), whole.eval())


def test_resuming_a_finished_run_gives_its_result(
    uninterrupted: tuple[Detector, Path],
    new_detector: NewDetector,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    quick: Recipe,
) -> None:
    folder = uninterrupted[1]
    before = (folder / "best.safetensors").read_bytes()
    result = train(new_detector(), train_set, val_set, quick, folder, resume=True, progress=False)
    assert result.metrics["AP"] is not None
    assert (folder / "best.safetensors").read_bytes() == before


def test_other_settings_or_data_are_refused(
    uninterrupted: tuple[Detector, Path],
    new_detector: NewDetector,
    train_set: DetectionDataset,
    val_set: DetectionDataset,
    quick: Recipe,
) -> None:
    folder = uninterrupted[1]

    def resume(recipe: Recipe, data: DetectionDataset) -> None:
        train(new_detector(), data, val_set, recipe, folder, resume=True, progress=False)

    with pytest.raises(InputError, match=r"batch_size 4, not 5"):
        resume(replace(quick, batch_size=5), train_set)
    with pytest.raises(InputError, match="training data has changed"):
        resume(quick, train_set.subset(range(13)))
    moved = replace(train_set[0], boxes_xyxy=train_set[0].boxes_xyxy + 1)
    with pytest.raises(InputError, match="training data has changed"):
        resume(quick, replace(train_set, records=(moved, *train_set.records[1:])))
    # what changes nothing in the weights may change
    resume(replace(quick, workers=1, save_minutes=1), train_set)


@pytest.mark.parametrize("content", [b"", b"not a state", b"PK\x03\x04 half a zip"])
def test_a_foreign_state_is_refused(
    content: bytes,
    new_detector: NewDetector,
    train_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    (tmp_path / "resume.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"resume\.pt"):
        train(new_detector(), train_set, None, quick, tmp_path, resume=True, progress=False)


def test_no_pickle_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "owned"),))

    torch.save({"format_version": 1, "recipe": Evil()}, tmp_path / "resume.pt")
    with pytest.raises(InputError):
        load_state(tmp_path / "resume.pt")
    assert not (tmp_path / "owned").exists()


def test_nothing_to_resume(
    new_detector: NewDetector, train_set: DetectionDataset, quick: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no run to resume"):
        train(new_detector(), train_set, None, quick, tmp_path, resume=True, progress=False)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse to write more than `size` bytes to a file, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_leaves_the_old_files(
    monkeypatch: pytest.MonkeyPatch,
    new_detector: NewDetector,
    train_set: DetectionDataset,
    quick: Recipe,
    tmp_path: Path,
) -> None:
    recipe = replace(quick, epochs=2)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        with pytest.raises(TrainingInterrupted):
            train(new_detector(), train_set, None, recipe, tmp_path, progress=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    # one byte less than the weights: last.safetensors fails first; then the state alone
    for limit in (1 << 16, len(before["last.safetensors"]) + 1024):
        with largest_file(limit), pytest.raises(InputError, match=r"cannot write|full"):
            train(new_detector(), train_set, None, recipe, tmp_path, resume=True, progress=False)
        left = {path.name for path in tmp_path.iterdir() if "tfevents" not in path.name}
        assert left == {name for name in before if "tfevents" not in name}
        assert (tmp_path / "resume.pt").read_bytes() == before["resume.pt"]
        checkpoint.load(tmp_path / "last.safetensors")
    train(new_detector(), train_set, None, recipe, tmp_path, resume=True, progress=False)


KILLED = """
import json, os, signal, sys, time
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from pathlib import Path
from tests.training.conftest import draw_dataset, tiny_detector
from flyweight.training.loop import train
from flyweight.training.recipe import Recipe
from flyweight.training.run_folder import RunFolder

folder = Path(sys.argv[2])
data = draw_dataset(folder, "train", 4, seed=1)
recipe = Recipe(epochs=100_000, batch_size=4, device="cpu")
run = RunFolder(folder / "run")
for attempt in range(4):
    before = len(run.read_metrics())
    child = os.fork()
    if not child:
        train(tiny_detector(), data, None, recipe, run.path, progress=False, resume=attempt > 0)
    while len(run.read_metrics()) < before + 2:
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        time.sleep(0.005)
    time.sleep(0.017 * attempt)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """One step, then three files, over and over: most kills hit a writing."""
    root = Path(__file__).parents[2]
    # a process of its own: a fork of this one could inherit locks of its threads
    subprocess.run(
        [sys.executable, "-c", KILLED, str(root), str(tmp_path)], cwd=root, check=True, timeout=300
    )
    run = tmp_path / "run"
    checkpoint.load(run / "best.safetensors")
    checkpoint.load(run / "last.safetensors")
    # it was resumed three times, and no epoch is lost or told twice
    done = load_state(run / "resume.pt").epoch
    epochs = [row["epoch"] for row in loop.RunFolder(run).read_metrics()]
    assert epochs[:done] == list(range(1, done + 1))
    assert done >= 5
