"""Figures in words."""

from __future__ import annotations

import pytest

from flyweight.profiling.quantity import megabytes, milliseconds, quantity, shape


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1000, "1.00 k"),
        (3_440_000, "3.44 M"),
        (9_994_000, "9.99 M"),
        (9_996_000, "10.0 M"),
        (99_960_000, "100 M"),
        (164_163_120, "164 M"),
        (999_600_000, "1.00 G"),
        (30_427_713_536, "30.4 G"),
        (-5_000, "-5.00 k"),
    ],
)
def test_counts_have_three_digits(count: int, text: str) -> None:
    assert quantity(count) == text


def test_units() -> None:
    assert megabytes(2_408_448) == "2.41 MB"
    assert megabytes(4_000) == "0.004 MB"
    assert megabytes(0) == "0 MB"
    assert milliseconds(8.314) == "8.31 ms"
    assert shape((1, 24, 112, 112)) == "1×24×112×112"
