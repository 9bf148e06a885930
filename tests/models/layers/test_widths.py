"""make_divisible against torchvision's, which the published weights follow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models._utils import _make_divisible

from flyweight.models.layers import make_divisible


@given(st.floats(1, 3000), st.sampled_from([1, 4, 8, 16]), st.sampled_from([None, 8, 16, 24]))
def test_equals_torchvision(channels: float, divisor: int, minimum: int | None) -> None:
    assert make_divisible(channels, divisor, minimum=minimum) == _make_divisible(
        channels, divisor, minimum
    )


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(1, 8), (11.9, 16), (12, 16), (24, 24), (32 * 0.35, 16), (96 * 0.35, 32), (100, 104)],
)
def test_hand_worked(channels: float, expected: int) -> None:
    assert make_divisible(channels) == expected


@given(st.floats(8, 3000))
def test_is_a_multiple_near_what_was_asked(channels: float) -> None:
    rounded = make_divisible(channels)
    assert rounded % 8 == 0
    assert rounded >= 0.9 * channels
    assert abs(rounded - channels) <= 8
