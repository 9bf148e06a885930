"""G1: equal input and output channels minimise memory access (ShuffleNetV2, table 1).

Ten pairs of 1×1 convolutions, c1 → c2 and c2 → c1, on 56×56 cells, at as many MACs. Once with the
paper's widths, most of which are no multiples of 8, and once with multiples of 8 alone: the two
must not be taken for each other.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from questions.markdown import by_name, joined, labels, per_mac, runtimes_of, table
from questions.timing import Candidate, Question, Row, Setting, stack, time_candidates

SIDE, PAIRS = 56, 10
SCALES = (1, 2, 4)
# c1 and c2 at scale 1, with the images a second on ARM that the paper's table 1 has.
PAPER = {
    (32, 32): (76.2, 21.7, 5.3),
    (22, 44): (72.9, 20.5, 5.1),
    (13, 78): (69.1, 17.9, 4.6),
    (9, 108): (57.6, 15.1, 4.4),
}
EIGHTS = ((32, 32), (16, 64), (8, 128))


def candidates() -> list[Candidate]:
    """Every pair of widths at every scale."""
    widths = dict.fromkeys((*PAPER, *EIGHTS))
    return [
        Candidate(
            _name(first, second, scale),
            stack(
                [
                    layer
                    for _ in range(PAIRS)
                    for layer in (
                        nn.Conv2d(first * scale, second * scale, 1),
                        nn.Conv2d(second * scale, first * scale, 1),
                    )
                ],
                side=SIDE,
            ),
        )
        for scale in SCALES
        for first, second in widths
    ]


def measure(setting: Setting) -> dict[str, Any]:
    """All of them."""
    return {"rows": time_candidates(candidates(), setting)}


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Time a MAC relative to equal channels, at each scale."""
    rows, runtimes = by_name(result), runtimes_of(result)

    def line(first: int, second: int, *, paper: bool) -> list[object]:
        pairs = [(rows[_name(first, second, each)], rows[_name(32, 32, each)]) for each in SCALES]
        cells: list[object] = [
            f"{first}, {second}",
            f"1:{second / first:.0f}",
            joined(_access_per_mac(row, base) for row, base in pairs),
        ]
        cells += [joined(per_mac(*pair, each) for pair in pairs) for each in runtimes]
        if paper:
            equal = PAPER[32, 32]
            cells.append(joined(a / b for a, b in zip(equal, PAPER[first, second], strict=True)))
        return cells

    head = ["c1, c2 at ×1", "ratio", "bytes", *labels(runtimes)]
    return {
        "g1_eights": table(head, [line(*each, paper=False) for each in EIGHTS], words=2),
        "g1_paper": table(
            [*head, "paper, ARM"], [line(*each, paper=True) for each in PAPER], words=2
        ),
    }


def _name(first: int, second: int, scale: int) -> str:
    return f"{first * scale}-{second * scale}"


def _access_per_mac(row: Row, base: Row) -> float:
    ratio: float = (row["access_mb"] / row["mmacs"]) / (base["access_mb"] / base["mmacs"])
    return ratio


QUESTION = Question(measure, tables)
