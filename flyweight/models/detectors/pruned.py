"""The widths that pruning left: a table in the config, applied to the network as it is built.

So a pruned detector is a checkpoint like any other: its header says how wide each layer is, and
nothing but the freshly built network and this table is needed to make one that its tensors fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.models.layers.narrowing import (
    Narrowable,
    Norm,
    channels_of,
    narrow,
    narrow_norm,
    norm_channels,
)
from flyweight.models.ops.feature_grids import pass_shapes

# Of each narrower layer its name, input and output channels; None where they are as built, so that
# the last layers fit whatever classes and anchors the config has.
Pruned = tuple[tuple[str, int | None, int | None], ...]


def narrow_network(network: nn.Module, table: Pruned, *, size_hw: tuple[int, int]) -> None:
    """Give a freshly built network the widths of `table`, in place.

    Norms follow the layers before them, `feature_info` the levels.

    Args:
        size_hw: of an input to try the result on, pixels. Shapes alone go through the network.

    Raises:
        InputError: the table names what is no layer, or widths that do not fit each other.
    """
    layers = dict(network.named_modules())
    for name, in_channels, out_channels in map(_checked, table):
        layer = layers.get(name)
        if not isinstance(layer, Narrowable):
            raise InputError(f"the network has no layer {name[:100]!r} to narrow", where="pruned")
        before = channels_of(layer)
        narrow(
            layer,
            before[0] if in_channels is None else in_channels,
            before[1] if out_channels is None else out_channels,
            where=name,
        )
    for layer, norm in layers_with_norms(network):
        channels = channels_of(layer)[1]
        if norm_channels(norm) != channels:
            narrow_norm(norm, channels)
    _try(network, size_hw)


def layers_with_norms(network: nn.Module) -> Iterator[tuple[nn.Conv2d | nn.Linear, Norm]]:
    """Each layer that a norm follows in the same `nn.Sequential`, with the norm."""
    for parent in network.modules():
        if isinstance(parent, nn.Sequential):
            for layer, norm in pairwise(parent.children()):
                if isinstance(layer, nn.Conv2d | nn.Linear) and isinstance(norm, Norm):
                    yield layer, norm


class WholePass(nn.Module):
    """A network run through to its last layers: of two stages both, the second on one region."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> None:
        """`images [1, 3, H, W]`, normalised. What comes out is for hooks to see."""
        raw = self.network(images)
        if hasattr(raw, "roi_head"):
            raw.roi_head(raw.features, images.new_zeros(1, 1, 4), static=True)


def _checked(row: object) -> tuple[str, int | None, int | None]:
    """A row of a table that a stranger may have written."""
    if isinstance(row, tuple) and len(row) == 3 and isinstance(row[0], str):
        name, *counts = row
        if all(count is None or type(count) is int for count in counts):
            return name, counts[0], counts[1]
    raise InputError(
        "a row of the table of widths is not (name, input channels, output channels)",
        where="pruned",
        fix="save the checkpoint again",
    )


def _try(network: nn.Module, size_hw: tuple[int, int]) -> None:
    """See that the widths fit each other, and write down those of the levels."""
    try:
        with _level_widths(network):
            pass_shapes(WholePass(network), size_hw)
    except RuntimeError as error:
        raise InputError(
            f"the widths of the pruned layers do not fit each other: "
            f"{str(error).splitlines()[0][:150]}",
            where="pruned",
            fix="save the checkpoint again",
        ) from error


@contextmanager
def _level_widths(network: nn.Module) -> Iterator[None]:
    """Within it, whatever gives levels takes the channels of its `feature_info` from them."""

    def write_down(part: Any, _: Any, levels: list[Tensor]) -> None:
        part.feature_info = tuple(
            replace(info, channels=level.shape[1])
            for info, level in zip(part.feature_info, levels, strict=True)
        )

    parts = [part for part in network.modules() if hasattr(part, "feature_info")]
    hooks = [part.register_forward_hook(write_down) for part in parts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
