"""Processes that find each other in a store where earlier ones have left their words."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from flyweight.training import meeting
from flyweight.training.meeting import fresh_part


def meet_all(store: dist.Store, count: int) -> list[dist.Store]:
    """What the processes of one start get, each in a thread."""
    with ThreadPoolExecutor(count) as pool:
        waiting = [
            pool.submit(fresh_part, store, rank=rank, count=count)
            for rank in reversed(range(count))
        ]
        return [each.result(timeout=60) for each in reversed(waiting)]


def test_every_start_has_a_part_of_its_own() -> None:
    store = dist.HashStore()
    store.set_timeout(timedelta(seconds=30))
    # three starts, the last with fewer processes, as torchrun --nnodes 1:3 has after a loss
    for count in (3, 3, 2):
        parts = meet_all(store, count)
        with pytest.raises(dist.DistStoreError):
            wait_briefly(parts[0], "address")
        parts[0].set("address", f"of {count}")
        assert [part.get("address") for part in parts] == [f"of {count}".encode()] * count


def wait_briefly(store: dist.Store, key: str) -> None:
    store.wait([key], timedelta(milliseconds=10))


def test_the_first_waits_for_the_living(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words and answers of a start before are there, its second process is not."""
    store = dist.HashStore()
    meet_all(store, 2)
    monkeypatch.setattr(meeting, "PROCESS_TIMEOUT", timedelta(seconds=0.5))
    with pytest.raises(TimeoutError):
        fresh_part(store, rank=0, count=2)


def test_a_late_one_does_not_believe_old_words(monkeypatch: pytest.MonkeyPatch) -> None:
    store = dist.HashStore()
    meet_all(store, 2)
    assert len(json.loads(store.get("flyweight/words"))) == 2
    monkeypatch.setattr(meeting, "PROCESS_TIMEOUT", timedelta(seconds=0.5))
    with pytest.raises(TimeoutError):
        fresh_part(store, rank=1, count=2)
