"""How the processes of a run find each other, also after `torchrun` has started them again."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from uuid import uuid4

import torch.distributed as dist
from lightning.fabric import Fabric

from flyweight.core.errors import InputError

# How long a process waits for another before it gives the run up. One that was killed is noticed at
# once; this is for one that hangs. The longest honest wait is for the first process, which alone
# counts AP and writes checkpoints.
PROCESS_TIMEOUT = timedelta(minutes=15)

SECONDS_BETWEEN_LOOKS = 0.05


def meet(fabric: Fabric) -> None:
    """Launch `fabric`: start the other processes, unless `torchrun` has, and connect to them.

    Raises:
        InputError: they do not find each other.
    """
    try:
        if "TORCHELASTIC_RUN_ID" in os.environ and fabric.world_size > 1:
            _connect_under_torchrun(fabric)
        fabric.launch()
    except (dist.DistError, TimeoutError) as error:
        raise InputError(
            "the processes of the run do not find each other",
            where=f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}",
            fix="start as many as WORLD_SIZE says, with an address that all of them reach",
        ) from error


def _connect_under_torchrun(fabric: Fabric) -> None:
    """Make the process group that `fabric` would, over a store of this start's own."""
    if dist.is_initialized():
        return
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = dist.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        count,
        is_master=rank == 0 and not served,
        timeout=PROCESS_TIMEOUT,
        multi_tenant=True,
    )
    on_gpu = fabric.device.type == "cuda"
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=fresh_part(store, rank=rank, count=count),
        rank=rank,
        world_size=count,
        timeout=PROCESS_TIMEOUT,
        device_id=fabric.device if on_gpu else None,
    )


def fresh_part(store: dist.Store, *, rank: int, count: int) -> dist.Store:
    """A part of `store` that no earlier start of the run has written to.

    torchrun's store outlives a restart, and with it the addresses of processes that are gone: who
    comes first would call the dead (PyTorch issue 135712). The count of restarts is no name for a
    start, since each machine counts its own. So each process leaves a word that only it can know;
    the first one repeats what it finds until each has found its own word there, and answers with
    the first one's.

    Raises:
        TimeoutError: not all processes have come within `PROCESS_TIMEOUT`.
    """
    mine = uuid4().hex
    store.set(f"flyweight/here/{rank}", mine)
    deadline = time.monotonic() + PROCESS_TIMEOUT.total_seconds()
    while time.monotonic() < deadline:
        if rank == 0:
            # `get` waits for a key that was never set
            words = [store.get(f"flyweight/here/{each}").decode() for each in range(count)]
            store.set("flyweight/words", json.dumps(words))
            answers = [f"flyweight/answer/{each}" for each in range(1, count)]
            if store.check(answers) and all(store.get(key).decode() == mine for key in answers):
                return dist.PrefixStore(mine, store)
        else:
            words = json.loads(store.get("flyweight/words"))
            if len(words) == count and words[rank] == mine:
                store.set(f"flyweight/answer/{rank}", words[0])
                return dist.PrefixStore(words[0], store)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    raise TimeoutError("not all processes have come")
