"""Who a process is before it has met the others, and what one alone does."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from flyweight.core.errors import InputError
from flyweight.training.devices import make_fabric
from flyweight.training.interrupt import StopError
from flyweight.training.processes import (
    LOCAL_RANKS,
    RANKS,
    ElsewhereError,
    Processes,
    ProcessLostError,
    is_told_here,
    process_rank,
)
from flyweight.training.recipe import Recipe


@pytest.fixture
def alone() -> Processes:
    return Processes(make_fabric(Recipe(device="cpu")))


@pytest.mark.parametrize(
    ("environment", "rank", "speaks"),
    [
        ({}, 0, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, 0, True),
        ({"RANK": "3", "LOCAL_RANK": "1"}, 3, False),
        # torchrun on the second of two machines: its first process tells what is wrong there
        ({"RANK": "2", "LOCAL_RANK": "0"}, 2, True),
        # Fabric's own children
        ({"LOCAL_RANK": "1"}, 1, False),
        ({"SLURM_PROCID": "5", "SLURM_LOCALID": "1"}, 5, False),
    ],
)
def test_the_environment_tells(
    environment: dict[str, str],
    rank: int,
    speaks: bool,
    alone: Processes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (*RANKS, *LOCAL_RANKS):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert process_rank() == rank
    error = InputError("no such folder")
    assert is_told_here(error) == speaks
    assert not is_told_here(ElsewhereError("in another process"))
    # once a run has begun, an error is of one process
    with pytest.raises(InputError), alone.lost_ones_named("again"):
        raise error
    assert is_told_here(error)


def test_one_process_needs_no_group(alone: Processes) -> None:
    assert not torch.distributed.is_initialized()
    assert alone.first
    assert alone.together(lambda: 7) == 7
    assert alone.collect("part") == ["part"]
    assert alone.agree(object())
    assert alone.first_with(True) == 0
    assert alone.first_with(False) is None
    losses = {"box": torch.tensor(2.0)}
    assert alone.share(losses, False) == (losses, False)
    assert alone.share(losses, True)[1] is True
    for kind in (StopError, InputError):
        with pytest.raises(kind):
            alone.together(partial(fail, kind))


def fail(kind: type[Exception]) -> None:
    raise kind("no")


def test_only_broken_connections_are_lost_processes(
    alone: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = RuntimeError("[/src/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer")
    monkeypatch.setattr("flyweight.training.processes.ignore_termination", lambda: None)
    with pytest.raises(RuntimeError, match="closed by peer"), alone.lost_ones_named("again"):
        raise closed
    alone.count = 2
    with pytest.raises(ProcessLostError, match="with: again"), alone.lost_ones_named("again"):
        raise closed
    with pytest.raises(ProcessLostError), alone.lost_ones_named("again"):
        raise RuntimeError("Application timeout caused pair closure")
    with pytest.raises(ProcessLostError), alone.lost_ones_named("again"):
        raise torch.distributed.DistBackendError("NCCL error in ...")
    with pytest.raises(RuntimeError, match="shape"), alone.lost_ones_named("again"):
        raise RuntimeError("shape mismatch")
    alone.rank = 1
    with pytest.raises(ElsewhereError), alone.lost_ones_named("again"):
        raise closed
