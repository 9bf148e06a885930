"""What else sees 5×5 cells: 5×1 and 1×5, two 3×3, one dilated 3×3 (Inception-v3, 3.1 and 3.2).

Four such layers in a row, at the shapes of three stages; all but the dilated one see every cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from questions.markdown import by_name, labels, ms, runtimes_of, table
from questions.timing import Candidate, Question, Setting, stack, time_candidates

LAYERS = 4
STAGES = ((32, 56), (64, 28), (128, 14))
FULL = "5×5"
KINDS: dict[str, Callable[[int], Sequence[nn.Module]]] = {
    FULL: lambda c: [nn.Conv2d(c, c, 5, padding=2)],
    "5×1, 1×5": lambda c: [
        nn.Conv2d(c, c, (5, 1), padding=(2, 0)),
        nn.Conv2d(c, c, (1, 5), padding=(0, 2)),
    ],
    "3×3, 3×3": lambda c: [nn.Conv2d(c, c, 3, padding=1) for _ in range(2)],
    "3×3, dilation 2": lambda c: [nn.Conv2d(c, c, 3, padding=2, dilation=2)],
}


def candidates() -> list[Candidate]:
    """Every kind at every stage."""
    return [
        Candidate(
            _name(kind, channels),
            stack([layer for _ in range(LAYERS) for layer in make(channels)], side=side),
        )
        for channels, side in STAGES
        for kind, make in KINDS.items()
    ]


def measure(setting: Setting) -> dict[str, Any]:
    """All of them."""
    return {"rows": time_candidates(candidates(), setting)}


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Milliseconds a layer, and its share of the 5×5's."""
    rows, runtimes = by_name(result), runtimes_of(result)
    lines = []
    for channels, side in STAGES:
        full = rows[_name(FULL, channels)]
        for kind in KINDS:
            row = rows[_name(kind, channels)]
            cells = [
                f"{ms(row, each) / LAYERS:.3f} ({ms(row, each) / ms(full, each):.2f})"
                for each in runtimes
            ]
            share = f"{row['mmacs'] / LAYERS:.1f} ({row['mmacs'] / full['mmacs']:.2f})"
            lines.append([f"{channels} × {side}²", kind, share, *cells])
    head = ["channels × cells", "layer", "MMACs", *labels(runtimes, unit="ms")]
    return {"kernels": table(head, lines, words=2)}


def _name(kind: str, channels: int) -> str:
    return f"{kind}, {channels} channels"


QUESTION = Question(measure, tables)
