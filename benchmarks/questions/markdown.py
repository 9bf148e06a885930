"""Tables of Markdown from rows of figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from questions.timing import LABELS, Row

NOTHING = "–"


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, words: int = 1) -> str:
    """The first `words` columns to the left, figures to the right."""
    ruler = ["---"] * words + ["---:"] * (len(header) - words)
    lines = [header, ruler, *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def by_name(result: Mapping[str, Any]) -> dict[str, Row]:
    """The rows of a result."""
    return {row["name"]: row for row in result["rows"]}


def runtimes_of(result: Mapping[str, Any]) -> list[str]:
    """The runtimes in which all its rows were timed, in their usual order."""
    return [each for each in LABELS if all(each in row["times"] for row in result["rows"])]


def labels(runtimes: Iterable[str], *, unit: str = "") -> list[str]:
    """Heads of the runtimes' columns."""
    return [LABELS[each] + (f", {unit}" if unit else "") for each in runtimes]


def ms(row: Row, column: str) -> float:
    """The median."""
    value: float = row["times"][column]["ms"]
    return value


def shown_ms(row: Row, column: str) -> str:
    """The median and half the distance between the quartiles."""
    if column not in row["times"]:
        return NOTHING
    time = row["times"][column]
    digits = 1 if time["ms"] >= 20 else 2 if time["ms"] >= 0.2 else 3
    return f"{time['ms']:.{digits}f} ± {time['spread']:.{digits}f}"


def per_mac(row: Row, base: Row, column: str) -> float:
    """Time a multiply-accumulate pair, relative to another network's."""
    return (ms(row, column) / row["mmacs"]) / (ms(base, column) / base["mmacs"])


def joined(values: Iterable[float], *, digits: int = 2) -> str:
    """Several figures in one cell."""
    return " / ".join(f"{value:.{digits}f}" for value in values)
