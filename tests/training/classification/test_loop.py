"""It learns; interrupted and resumed it is the same run to the last bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from flyweight.core.errors import CheckError, InputError
from flyweight.training.classification.network import load_classifier
from flyweight.training.classification.run import PretrainedRun, pretrain
from flyweight.training.classification.step import ClassificationStep
from flyweight.training.interrupt import TrainingInterrupted
from flyweight.training.run_folder import RunFolder

QUICK: dict[str, Any] = {
    "width": 0.25, "size": 40, "batch_size": 16, "epochs": 4, "lr": 2e-3, "warmup_epochs": 0.5,
    "workers": 0, "device": "cpu", "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def learnt(shapes_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> PretrainedRun:
    """Four epochs of three steps, left alone."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "whole"
    return pretrain("resnet18", shapes_dir, out, **QUICK)


def test_it_learns(learnt: PretrainedRun) -> None:
    assert learnt.metrics["top1"] > 0.9
    assert learnt.metrics["balanced_accuracy"] == learnt.metrics["top1"]  # as many of each class
    assert learnt.classes == ("block", "cross", "disc")
    assert learnt.images == {"train": 51, "val": 9}
    rows = RunFolder(learnt.run).read_metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[learnt.best_epoch - 1]["top1"] == learnt.metrics["top1"]
    assert rows[-1]["loss"] < rows[0]["loss"] / 1.3


def test_the_best_checkpoint_says_what_it_is(learnt: PretrainedRun, shapes_dir: Path) -> None:
    network = load_classifier(learnt.checkpoint)
    assert (network.config.backbone, network.config.width) == ("resnet18", 0.25)
    assert network.preprocessing.size_hw == (40, 40)
    assert network.lineage["data"]["name"] == "shapes"
    assert network.lineage["data"]["images"] == 51
    assert network.lineage["pretrained"] == {"source": "none"}
    assert str(shapes_dir) not in network.manifest().to_json()


# of 12 steps: in mid-epoch, the last of an epoch, the last of all (its evaluation follows)
@pytest.mark.parametrize("step", [4, 5, 11])
def test_interrupted_and_resumed_is_uninterrupted(
    step: int,
    monkeypatch: pytest.MonkeyPatch,
    learnt: PretrainedRun,
    shapes_dir: Path,
    tmp_path: Path,
) -> None:
    original = ClassificationStep.__call__

    def call(self: ClassificationStep, batch: Any, number: int) -> Any:
        if number == step:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, batch, number)

    out = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(ClassificationStep, "__call__", call)
        with pytest.raises(TrainingInterrupted, match="its state is saved"):
            pretrain("resnet18", shapes_dir, out, **QUICK)
    resumed = pretrain("resnet18", shapes_dir, out, resume=True, **QUICK)
    assert resumed.metrics == learnt.metrics
    assert resumed.best_epoch == learnt.best_epoch
    for name in ("best.safetensors", "last.safetensors"):
        ours, theirs = load_classifier(out / name), load_classifier(learnt.run / name)
        assert ours.manifest() == theirs.manifest()
        for key, tensor in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[key], tensor), key
    rows = [RunFolder(each).read_metrics() for each in (out, learnt.run)]
    for row in rows[0] + rows[1]:
        del row["images_per_second"]
    assert rows[0] == rows[1]


def test_a_loss_that_is_no_number_stops_the_run(
    shapes_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: Any) -> torch.Tensor:
        return torch.tensor(float("nan"))

    monkeypatch.setattr(ClassificationStep, "__call__", diverge)
    with pytest.raises(CheckError, match=r"loss is nan \(epoch 1, step 1 of 3\)"):
        pretrain("resnet18", shapes_dir, tmp_path / "run", **QUICK)


def test_several_processes_are_refused(
    shapes_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flyweight.training.classification import loop

    class TwoProcesses:
        world_size = 2

        def launch(self) -> None:
            pass

    monkeypatch.setattr(loop, "make_fabric", lambda _: TwoProcesses())
    with pytest.raises(InputError, match="one process, not by 2"):
        pretrain("resnet18", shapes_dir, tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()


def test_the_folder_of_a_run_is_not_taken_twice(
    learnt: PretrainedRun, shapes_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="there is a run in this folder already"):
        pretrain("resnet18", shapes_dir, learnt.run, **QUICK)
