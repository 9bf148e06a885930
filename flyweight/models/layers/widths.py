"""Channel counts under a width multiplier."""

from __future__ import annotations


def make_divisible(channels: float, divisor: int = 8, *, minimum: int | None = None) -> int:
    """Round `channels` to the nearest multiple of `divisor`, never losing more than 10 %.

    The rule of the TensorFlow MobileNet code that every published MobileNet weight file follows
    (MobileNetV2, https://arxiv.org/abs/1801.04381; `_make_divisible` in TF-slim). Multiples of 8
    keep vector units full.

    Args:
        channels: the wanted number of channels, usually `round number * width multiplier`.
        divisor: the result is a multiple of it.
        minimum: the smallest result; `divisor` when not given.
    """
    floor = divisor if minimum is None else minimum
    rounded = max(floor, int(channels + divisor / 2) // divisor * divisor)
    if rounded < 0.9 * channels:
        rounded += divisor
    return rounded
