"""How many cells each level of a network has, without running it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from flyweight.core.errors import InputError

KEEPS_SHAPE = (
    _BatchNorm,
    nn.GroupNorm,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.Mish,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Dropout,
)


def feature_grids(module: nn.Module, size_hw: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """(rows, columns) of each level that `module` gives for an input of `size_hw` pixels.

    Shapes alone go through the network, on the meta device: what kernels, paddings and roundings
    do to them need not be known a second time.

    Args:
        module: images `[B, 3, H, W]` to a list of levels `[B, C, h, w]`.

    Raises:
        InputError: the input is too small for the network's strides.
    """
    try:
        with _only_what_shapes(module):
            levels: list[Tensor] = pass_shapes(module, size_hw)
    except RuntimeError as error:
        raise InputError(
            f"input size {size_hw[0]}x{size_hw[1]} is too small for the network's strides "
            f"({str(error).splitlines()[0][:150]})",
            where="size",
            fix="take a larger input, or fewer levels",
        ) from error
    return tuple((int(level.shape[-2]), int(level.shape[-1])) for level in levels)


def pass_shapes(module: nn.Module, size_hw: tuple[int, int]) -> Any:
    """What `module` gives for an image of `size_hw` pixels in evaluation mode, on the meta device:
    tensors that have shapes and no values. The module stays where and as it is."""
    # Each module's own mode: a container around parts that are in use has another.
    modes = {each: each.training for each in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            named = chain(module.named_parameters(), module.named_buffers())
            shapes = {name: tensor.to("meta") for name, tensor in named}
            images = torch.empty((1, 3, *size_hw), device="meta")
            return torch.func.functional_call(module, shapes, (images,))
    finally:
        for each, training in modes.items():
            each.training = training


@contextmanager
def _only_what_shapes(module: nn.Module) -> Iterator[None]:
    """Without what keeps shapes: on the meta device it takes nine tenths of the time."""
    removed: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, KEEPS_SHAPE):
                removed.append((parent, name, child))
                setattr(parent, name, nn.Identity())
    try:
        yield
    finally:
        for parent, name, child in removed:
            setattr(parent, name, child)
