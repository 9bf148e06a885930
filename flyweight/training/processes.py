"""The processes of a run: what they do together, and how the end of one reaches the others."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from torch import Tensor, nn

from flyweight.core.errors import FlyweightError
from flyweight.training.interrupt import StopError, ignore_termination
from flyweight.training.meeting import meet

T = TypeVar("T")

# who this process is before it has met the others: torchrun's name, Fabric's own, SLURM's
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID")
OWN = "raised by this process of the run, the others do not know why it ends"
# how gloo's errors can be told from others: it raises plain RuntimeErrors
GLOO = ("gloo/transport", "Application timeout caused pair closure")


class ElsewhereError(FlyweightError):
    """The run has failed in another process, which says why: nothing is left to say here."""


class ProcessLostError(FlyweightError):
    """Another process of the run has ended, or no longer answers."""


def process_rank() -> int:
    """This process's number among all of the run, from 0; 0 where there is one."""
    return dist.get_rank() if _met() else _first_number(RANKS)


def is_told_here(error: FlyweightError) -> bool:
    """Whether this process is the one to print `error`.

    What is wrong before a run begins is wrong in all processes of a machine, which open the same
    data with the same settings: the machine's first one tells it.
    """
    if isinstance(error, ElsewhereError):
        return False
    return _first_number(LOCAL_RANKS) == 0 or OWN in getattr(error, "__notes__", ())


def _met() -> bool:
    return dist.is_available() and dist.is_initialized()


def _part() -> None:
    if _met():
        dist.destroy_process_group()


def _first_number(names: tuple[str, ...]) -> int:
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


class Processes:
    """All processes of a run. Every method is called in all of them, in the same order.

    Args:
        fabric: not launched yet; with several devices it starts the other processes here, unless
            `torchrun` has.

    Raises:
        InputError: they do not find each other.
    """

    def __init__(self, fabric: Fabric) -> None:
        # Fabric's words about it would come from every process
        for name in ("lightning.fabric", "lightning.pytorch"):
            logging.getLogger(name).setLevel(logging.WARNING)
        meet(fabric)
        if _met():
            # gloo aborts a process that ends with its connections open
            atexit.register(_part)
        self.rank = fabric.global_rank
        self.count = fabric.world_size
        self.device = fabric.device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def together(self, work: Callable[[], T]) -> T:
        """Do `work` in every process; when it fails in one, it fails in all.

        Raises:
            FlyweightError: what `work` raised, in the first process that it failed in.
            ElsewhereError: in the others.
            StopError: in all, when `work` raised it in any.
        """
        if self.count == 1:
            return work()
        failure: FlyweightError | StopError | None = None
        try:
            done = work()
        except (FlyweightError, StopError) as error:
            failure = error
        outcomes = self._gather(None if failure is None else getattr(failure, "exit_code", "stop"))
        failed = [rank for rank, outcome in enumerate(outcomes) if isinstance(outcome, int)]
        if failed and failed[0] != self.rank:
            raise elsewhere(failed[0], exit_code=outcomes[failed[0]]) from failure
        if failure is not None:
            raise failure
        if "stop" in outcomes:
            raise StopError
        return done

    def agree(self, mine: object) -> bool:
        """Whether `mine` is the same in every process."""
        return all(each == mine for each in self._gather(mine))

    def first_with(self, mine: bool) -> int | None:
        """The lowest rank whose `mine` is true."""
        answers = self._gather(mine)
        return answers.index(True) if True in answers else None

    def collect(self, mine: T) -> list[T] | None:
        """Every process's part, in the order of ranks; in the first process only."""
        if self.count == 1:
            return [mine]
        parts: list[Any] | None = [None] * self.count if self.first else None
        dist.gather_object(mine, parts)
        return parts

    def share(
        self, losses: Mapping[str, Tensor], asked: bool
    ) -> tuple[dict[str, Tensor], Tensor | bool]:
        """Means of `losses` (scalars) over the processes, and whether any was asked to stop.

        One exchange for both, a few bytes a step; on a GPU nobody waits for it.
        """
        if self.count == 1:
            return dict(losses), asked
        mine = torch.stack([*losses.values(), torch.tensor(float(asked), device=self.device)])
        dist.all_reduce(mine)
        means = (mine[:-1] / self.count).unbind()
        return dict(zip(losses, means, strict=True)), mine[-1] > 0

    def take_from_first(self, module: nn.Module) -> None:
        """Make weights and buffers of `module` those of the first process, to the last bit."""
        if self.count == 1:
            return
        for tensor in module.state_dict().values():
            # channels-last weights are not contiguous in the sense of a broadcast
            sent = tensor.detach().contiguous()
            dist.broadcast(sent, src=0)
            tensor.detach().copy_(sent)

    def _gather(self, mine: Any) -> list[Any]:
        if self.count == 1:
            return [mine]
        answers: list[Any] = [None] * self.count
        dist.all_gather_object(answers, mine)
        return answers

    @contextmanager
    def lost_ones_named(self, resume_command: str) -> Iterator[None]:
        """Turn a broken connection into an error that says what to do.

        Other errors are marked as this process's own.

        Raises:
            ProcessLostError: within the block, another process was lost; in the first process.
            ElsewhereError: in the others.
        """
        try:
            yield
        except FlyweightError as error:
            error.add_note(OWN)
            raise
        except RuntimeError as error:
            if self.count == 1 or not _is_connection(error):
                raise
            ignore_termination()
            if not self.first:
                raise elsewhere() from error
            raise ProcessLostError(
                "another process of the run has ended or no longer answers (if it could say why, "
                f"it has); go on from the last saved state with: {resume_command}"
            ) from error


def elsewhere(rank: int | None = None, *, exit_code: int = 1) -> ElsewhereError:
    """The error of a process that ends because another has failed."""
    which = "another process" if rank is None else f"process {rank}"
    error = ElsewhereError(f"the run has failed in {which}, which says why")
    error.exit_code = exit_code
    return error


def _is_connection(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(words in str(error) for words in GLOO)
