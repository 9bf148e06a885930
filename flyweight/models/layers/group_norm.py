"""Group normalisation as a norm factory."""

from __future__ import annotations

from torch import nn

from flyweight.core.errors import InputError


def group_norm(channels: int, *, channels_per_group: int = 16, part: str = "norm") -> nn.Module:
    """A GroupNorm whose groups divide the channels, whatever the width.

    Group Normalization, https://arxiv.org/abs/1803.08494; 16 channels a group did best in its
    table 3. Where 16 does not divide the channels, the largest smaller size of at least 2 that
    does is taken. Mean and variance are of one image, so the size of the batch does not matter;
    nothing folds.

    With C channels and H·W pixels: 2·C parameters, no MACs (two passes over C·H·W values).

    Args:
        channels: of the layer before.
        channels_per_group: at most so many channels share their statistics.
        part: what the norm belongs to, for the message of the InputError; bind it with `partial`.

    Raises:
        InputError: where no size from 2 to `channels_per_group` divides the channels.
    """
    for size in range(min(channels_per_group, channels), 1, -1):
        if channels % size == 0:
            return nn.GroupNorm(channels // size, channels)
    raise InputError(
        f"{channels} channels cannot be grouped: no group of 2 to {channels_per_group} channels "
        "divides them",
        where=part,
        fix="choose a width that gives a multiple of 8 channels, or another norm",
    )
