"""Counts of processes: torchrun's go before the recipe's."""

from __future__ import annotations

import os

import pytest

from flyweight.core.errors import InputError
from flyweight.training.devices import make_fabric, reading_processes
from flyweight.training.recipe import Recipe


def under_torchrun(monkeypatch: pytest.MonkeyPatch, *, here: int, world: int) -> None:
    for name, value in {
        "TORCHELASTIC_RUN_ID": "one", "LOCAL_WORLD_SIZE": str(here), "WORLD_SIZE": str(world),
        "RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


def test_torchruns_counts_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines with two processes each; this is the second one's second."""
    under_torchrun(monkeypatch, here=2, world=4)
    fabric = make_fabric(Recipe(device="cpu", devices=7, num_nodes=3))
    assert (fabric.world_size, fabric.global_rank, fabric.node_rank) == (4, 3, 1)


def test_one_process_has_no_group() -> None:
    fabric = make_fabric(Recipe(device="cpu"))
    assert fabric.world_size == 1
    assert type(fabric.strategy).__name__ == "SingleDeviceStrategy"


def test_readers_leave_cores_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert reading_processes(Recipe(), "cuda") == 8
    under_torchrun(monkeypatch, here=4, world=8)
    assert reading_processes(Recipe(), "cuda") == 3
    assert reading_processes(Recipe(), "cpu") == 0
    assert reading_processes(Recipe(workers=5), "cuda") == 5


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    under_torchrun(monkeypatch, here=2, world=2)
    with pytest.raises(InputError, match="2 processes need a CUDA device each, but there are 1"):
        make_fabric(Recipe(device="cuda"))
