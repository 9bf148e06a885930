"""From a recipe to Lightning Fabric: which device, how many processes, which precision."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy

from flyweight.core.errors import InputError
from flyweight.training import meeting
from flyweight.training.batches import default_workers
from flyweight.training.recipe import Recipe


def make_fabric(recipe: Recipe) -> Fabric:
    """A Fabric for the recipe's device, devices, nodes, strategy and precision.

    Under `torchrun` the launcher's own counts hold, and no process is started.

    Raises:
        InputError: the device is unknown or not there.
    """
    kind, number = _device(recipe.device)
    count, num_nodes = _counts(recipe)
    if kind == "cuda" and count > torch.cuda.device_count():
        raise InputError(
            f"{count} processes need a CUDA device each, but there are "
            f"{torch.cuda.device_count()} here",
            fix="start fewer processes, or use --device cpu",
        )
    if kind == "mps" and count > 1:
        raise InputError("there is one Apple GPU, for one process", fix="use --devices 1")
    return Fabric(
        accelerator=kind,
        devices=count if number is None or count > 1 else [number],
        num_nodes=num_nodes,
        strategy=_strategy(recipe.strategy, processes=count * num_nodes),
        precision=recipe.precision,  # type: ignore[arg-type]
    )


def reading_processes(recipe: Recipe, device_type: str) -> int:
    """The recipe's workers, or as many as leave each training process of this machine a core."""
    if recipe.workers is not None:
        return recipe.workers
    cores = (os.cpu_count() or 2) // _counts(recipe)[0]
    return min(default_workers(device_type), max(1, cores - 1))


def _counts(recipe: Recipe) -> tuple[int, int]:
    """Processes on each machine, and machines."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return recipe.devices, recipe.num_nodes
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return here, int(os.environ["WORLD_SIZE"]) // here


def _device(name: str) -> tuple[str, int | None]:
    """Fabric's word for the device and the number that the user gave."""
    kind, _, number = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise InputError(f"unknown device '{name}'", fix="choose auto, cpu, cuda, cuda:1 or mps")
    if kind == "auto":
        kind = _best_device()
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("torch finds no CUDA device here", fix="use --device cpu")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise InputError(
            f"there is no {name}, only {torch.cuda.device_count()} CUDA devices",
            fix="use --device cuda",
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("torch finds no Apple GPU here", fix="use --device cpu")
    return kind, int(number) if number else None


def _strategy(name: str, *, processes: int) -> Any:
    """Fabric's own choice, with a time after which a silent process ends the run."""
    if name == "ddp" or (name == "auto" and processes > 1):
        return DDPStrategy(timeout=meeting.PROCESS_TIMEOUT)
    return name


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
