"""Budgets in words."""

from __future__ import annotations

import pytest

from flyweight.core.errors import InputError
from flyweight.profiling.advice.advice import Price
from flyweight.profiling.design.budget import Budget, parse_budget


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("8 ms", Budget("milliseconds", 8.0)),
        ("0.5s", Budget("milliseconds", 500.0)),
        ("500 MMACs", Budget("macs", 5e8)),
        ("1.5 GMACs", Budget("macs", 1.5e9)),
        ("2 MB", Budget("bytes", 2e6)),
        (".8 M params", Budget("params", 8e5)),
    ],
)
def test_words_to_budgets(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget
    assert parse_budget(budget.shown(budget.limit)) == budget


@pytest.mark.parametrize("text", ["", "fast", "8", "-3 ms", "0 ms", "8 m", "8 ms 3 ms"])
def test_words_that_are_no_budget(text: str) -> None:
    with pytest.raises(InputError, match="is no budget"):
        parse_budget(text)


def test_what_a_network_takes() -> None:
    price = Price(params=500_000, macs=3_000_000, access_bytes=1, milliseconds=2.5)
    taken = [parse_budget(text).spent(price) for text in ("8 ms", "5 MMACs", "2 MB", "1 M params")]
    assert taken == [2.5, 3e6, 2e6, 5e5]


def test_milliseconds_need_a_device() -> None:
    with pytest.raises(InputError, match="--calibrate"):
        parse_budget("8 ms").spent(Price(params=1, macs=1, access_bytes=1))
