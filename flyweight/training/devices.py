"""From a recipe to Lightning Fabric: which device, how many processes, which precision."""

from __future__ import annotations

import os

import torch
from lightning.fabric import Fabric

from flyweight.core.errors import InputError
from flyweight.training.recipe import Recipe


def make_fabric(recipe: Recipe) -> Fabric:
    """A Fabric for the recipe's device, devices, nodes, strategy and precision.

    Under `torchrun` the launcher's own counts hold.

    Raises:
        InputError: the device is unknown or not there.
    """
    kind, _, number = recipe.device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise InputError(
            f"unknown device '{recipe.device}'", fix="choose auto, cpu, cuda, cuda:1 or mps"
        )
    if kind == "auto":
        kind = _best_device()
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("torch finds no CUDA device here", fix="use --device cpu")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise InputError(
            f"there is no {recipe.device}, only {torch.cuda.device_count()} CUDA devices",
            fix="use --device cuda",
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("torch finds no Apple GPU here", fix="use --device cpu")
    devices: int | list[int] = [int(number)] if number else recipe.devices
    num_nodes = recipe.num_nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        num_nodes = int(os.environ["WORLD_SIZE"]) // devices
    return Fabric(
        accelerator=kind,
        devices=devices,
        num_nodes=num_nodes,
        strategy=recipe.strategy,
        precision=recipe.precision,  # type: ignore[arg-type]
    )


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
