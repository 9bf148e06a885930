"""Several processes: what two of them leave, started as `torchrun` starts them."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from flyweight.core.errors import InputError
from flyweight.models.detectors import checkpoint
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.models.detectors.zoo import build
from flyweight.training.batches import EpochBatches
from flyweight.training.recipe import Recipe
from flyweight.training.resume import check_same_run, load_state
from flyweight.training.run_folder import RunFolder
from flyweight.training.shared_evaluation import share_of
from tests.training import two_processes

ROOT = Path(__file__).parents[2]
# generous: a busy machine takes minutes for what is done in ten seconds; a hang would take for ever
TIMEOUT = 600


def start_two(arguments: Sequence[str]) -> list[int]:
    """Exit codes of two processes with `torchrun`'s environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        environment = os.environ | {
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test", "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        processes.append(subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment))
    try:
        return [process.wait(timeout=TIMEOUT) for process in processes]
    finally:
        for process in processes:
            process.kill()


Told = list[dict[str, Any]]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    """The folder of all scenarios, and what each process has to tell of them."""
    folder = tmp_path_factory.mktemp("two")
    assert start_two(["-W", "error", "-m", "tests.training.two_processes", str(folder)]) == [0, 0]
    return folder, [json.loads((folder / f"told_{rank}.json").read_text()) for rank in range(2)]


def rows_of(run: Path) -> list[dict[str, Any]]:
    """Lines of `metrics.jsonl` without the speed."""
    rows = RunFolder(run).read_metrics()
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


def weights_of(detector: Detector) -> Mapping[str, torch.Tensor]:
    return detector.state_dict()


def test_two_batches_of_two_are_one_of_four(two: tuple[Path, Told], tmp_path: Path) -> None:
    """Losses and weights, to rounding: sums of floats are taken in another order.

    The halves have different numbers of positives: both divide by their mean.
    """
    torch.set_num_threads(1)
    two_processes.equality(tmp_path, tmp_path / "one", processes=1)
    ours, theirs = rows_of(two[0] / "two"), rows_of(tmp_path / "one")
    assert len(ours) == 2
    assert ours == [pytest.approx(row, rel=1e-5) for row in theirs]
    a = weights_of(checkpoint.load(two[0] / "two" / "last.safetensors"))
    b = weights_of(checkpoint.load(tmp_path / "one" / "last.safetensors"))
    start = weights_of(two_processes.group_norm_detector())
    moved = max(float((b[name] - start[name]).abs().max()) for name in b)
    apart = max(float((a[name] - b[name]).abs().max()) for name in b)
    assert moved > 1e-3
    assert apart < 1e-4 * moved


def test_shared_evaluation_is_that_of_one_process(two: tuple[Path, Told]) -> None:
    for told in two[1][0]["shared_evaluation"]["told"]:
        assert all(told["same"])
        assert told["found"] > 0
        alone, shared = told["AP"]
        assert alone == shared
    # the second process counts nothing
    assert [told["counted"] for told in two[1][1]["shared_evaluation"]["told"]] == [0, 0]


@pytest.mark.parametrize(("images", "batch_size", "processes"), [(5, 2, 2), (1, 4, 3), (24, 4, 3)])
def test_every_image_is_in_one_share(images: int, batch_size: int, processes: int) -> None:
    shares = [
        share_of(images, batch_size, rank=rank, processes=processes) for rank in range(processes)
    ]
    assert sorted(place for share in shares for place in share) == list(range(images))
    # the batches of one process
    whole = [list(range(images))[at : at + batch_size] for at in range(0, images, batch_size)]
    for share in shares:
        parts = [share[at : at + batch_size] for at in range(0, len(share), batch_size)]
        assert all(part in whole for part in parts)


@pytest.mark.parametrize("scenario", ["fewer_images_than_processes", "one_process_without_boxes"])
def test_uneven_data(two: tuple[Path, Told], scenario: str) -> None:
    assert [told[scenario] for told in two[1]] == [{"epochs": 2}] * 2
    run = {"fewer_images_than_processes": "one_image"}.get(scenario, "no_boxes")
    assert all(math.isfinite(row["loss"]) for row in rows_of(two[0] / run))


def test_fewer_images_than_processes_repeat() -> None:
    given = []
    for rank in range(3):
        batches = EpochBatches(2, batch_size=4, seed=0, rank=rank, world_size=3)
        (only,) = list(batches)
        given += [draw.record for draw in only]
    assert len(given) == 3
    assert set(given) == {0, 1}


def test_all_leave_after_the_same_step(two: tuple[Path, Told]) -> None:
    """The signal reached the second process alone, before the fifth step of six."""
    assert [told["stopped_in_one"]["error"] for told in two[1]] == ["TrainingInterrupted"] * 2
    # it was resumed since, and has come to the same end as the run that was left alone
    assert [told["resumed"] for told in two[1]] == [{"epochs": 2}] * 2
    assert rows_of(two[0] / "parts") == rows_of(two[0] / "whole")
    states = [load_state(two[0] / name / "resume.pt") for name in ("parts", "whole")]
    assert [state.processes for state in states] == [2, 2]
    for part in ("model", "ema"):
        ours, theirs = (state.step[part] for state in states)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    # 14 images, two processes with batches of 2: three steps an epoch
    assert states[0].step["schedule"]["last_epoch"] == 6


def test_all_leave_an_evaluation(two: tuple[Path, Told]) -> None:
    for told in two[1]:
        assert told["stopped_in_evaluation"]["error"] == "TrainingInterrupted"
    state = load_state(two[0] / "stopped_in_evaluation" / "resume.pt")
    assert (state.epoch, state.batches_done) == (0, 3)


@pytest.mark.parametrize(
    ("scenario", "errors", "text"),
    [
        ("resumed_by_other_data", ("InputError", "ElsewhereError"), "training data has changed"),
        ("other_images_in_one", ("InputError", "ElsewhereError"), "different images or models"),
        ("nan_in_one", ("CheckError", "ElsewhereError"), "epoch 2, step 1 of 3"),
        ("unreadable_in_evaluation", ("ElsewhereError", "InputError"), "val_2.png"),
        ("unreadable_in_training", ("ProcessLostError", "InputError"), "train_"),
    ],
)
def test_one_process_speaks(
    two: tuple[Path, Told], scenario: str, errors: tuple[str, str], text: str
) -> None:
    assert tuple(told[scenario]["error"] for told in two[1]) == errors
    texts = [told[scenario]["text"] for told in two[1]]
    assert [text in each for each in texts] == [
        error in ("InputError", "CheckError") for error in errors
    ]


def test_the_bad_batch_of_another_process(two: tuple[Path, Told]) -> None:
    """The first process writes the second one's batch, which it has never seen."""
    told = [json.loads((two[0] / f"nan_{rank}.json").read_text()) for rank in range(2)]
    assert told == [[False, 1], [True, 1]]
    assert (two[0] / "nan" / "bad_batch.png").is_file()


def test_another_number_of_processes_is_refused(two: tuple[Path, Told]) -> None:
    path = two[0] / "whole" / "resume.pt"
    state = load_state(path)
    recipe = Recipe.from_dict(state.recipe)
    check_same_run(state, recipe, state.data, path, processes=2)
    with pytest.raises(InputError, match="with 2 processes, not 1"):
        check_same_run(state, recipe, state.data, path)


@pytest.mark.parametrize(
    "name",
    ["ssdlite320_mobilenet_v1", "retinanet_snet", "faster_rcnn_resnet50_fpn", "yolov3"],
)
def test_every_weight_has_a_gradient_without_objects(name: str) -> None:
    """DDP waits for the gradient of each weight, and `share` for each loss, whatever the batch."""
    detector = build(name, classes=("a", "b"), size=128, width=0.125).train()
    images = torch.randint(0, 255, (2, 128, 128, 3), dtype=torch.uint8)
    box = torch.tensor([16.0, 16, 80, 80]).expand(2, 1, 4)
    names = []
    for targets in (
        Targets(boxes_xyxy=box, labels=torch.ones(2, 1, dtype=torch.int64)),
        Targets(boxes_xyxy=torch.zeros(2, 1, 4), labels=torch.full((2, 1), -1)),
    ):
        detector.zero_grad(set_to_none=True)
        losses = detector.loss(images, targets)
        torch.stack(list(losses.values())).sum().backward()
        assert all(each.grad is not None for each in detector.parameters() if each.requires_grad)
        names.append(list(losses))
    assert names[0] == names[1]
