"""Figures of a profile in words."""

from __future__ import annotations

from collections.abc import Sequence

PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def quantity(count: float) -> str:
    """A count with three digits: `3.44 M`, `165 M`, `12.3 G`, `512`, `0`."""
    for factor, prefix in PREFIXES:
        # What rounds up to a thousand has the next prefix.
        if abs(count) >= 0.9995 * factor:
            return f"{_three_digits(count / factor)} {prefix}"
    return _three_digits(count) if count % 1 else f"{count:.0f}"


def megabytes(count: float) -> str:
    """Bytes as `12.3 MB`, of 10⁶ bytes."""
    return f"{_three_digits(count / 1e6)} MB"


def milliseconds(time: float) -> str:
    """`8.31 ms`."""
    return f"{_three_digits(time)} ms"


def shape(sizes: Sequence[int]) -> str:
    """`1×24×112×112`."""
    return "×".join(str(size) for size in sizes)


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    size = abs(value)
    digits = 0 if size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{value:.{digits}f}" if size >= 0.01 else f"{value:.1g}"
