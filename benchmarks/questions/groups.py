"""G2: heavy grouping raises memory access (ShuffleNetV2, table 2).

Ten 1×1 convolutions in g groups on 56×56 cells: at as many MACs (so √g times the channels), and at
as many channels (so g times fewer MACs), which is the choice that a designer has. Groups hold a
multiple of 8 channels.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from questions.markdown import by_name, joined, labels, ms, per_mac, runtimes_of, shown_ms, table
from questions.timing import Candidate, Question, Setting, stack, time_candidates

SIDE, LAYERS = 56, 10
SCALES = (1, 2, 4)
# channels at scale 1 by groups: 64·√g to the next width whose groups hold multiples of 8
WIDTHS = {1: 64, 2: 96, 4: 128, 8: 192, 16: 256}
# images a second on ARM in the paper's table 2 (c = 64, 90, 128, 180 at scale 1)
PAPER = {1: (40.0, 10.2, 2.3), 2: (35.0, 9.5, 2.2), 4: (32.9, 8.7, 2.1), 8: (27.8, 7.5, 1.8)}
SAME_WIDTH = 256
SAME_WIDTH_GROUPS = (1, 2, 4, 8, 16, 32, SAME_WIDTH)


def candidates() -> list[Candidate]:
    """Every width and number of groups that the two tables need, once."""
    shapes = {(groups, width * scale) for groups, width in WIDTHS.items() for scale in SCALES}
    shapes |= {(groups, SAME_WIDTH) for groups in SAME_WIDTH_GROUPS}
    return [
        Candidate(
            _name(groups, channels),
            stack(
                [nn.Conv2d(channels, channels, 1, groups=groups) for _ in range(LAYERS)], side=SIDE
            ),
        )
        for groups, channels in sorted(shapes)
    ]


def measure(setting: Setting) -> dict[str, Any]:
    """All of them."""
    return {"rows": time_candidates(candidates(), setting)}


def tables(result: dict[str, Any]) -> dict[str, str]:
    """At equal MACs, and at equal channels."""
    rows, runtimes = by_name(result), runtimes_of(result)
    equal_macs = []
    for groups, width in WIDTHS.items():
        pairs = [
            (rows[_name(groups, width * each)], rows[_name(1, WIDTHS[1] * each)]) for each in SCALES
        ]
        paper = [a / b for a, b in zip(PAPER[1], PAPER.get(groups, ()), strict=False)]
        equal_macs.append(
            [
                groups,
                " / ".join(str(width * each) for each in SCALES),
                joined(
                    row["access_mb"] / row["mmacs"] * base["mmacs"] / base["access_mb"]
                    for row, base in pairs
                ),
                *(joined(per_mac(*pair, each) for pair in pairs) for each in runtimes),
                joined(paper) or "–",
            ]
        )
    dense = rows[_name(1, SAME_WIDTH)]
    equal_channels = []
    for groups in SAME_WIDTH_GROUPS:
        row = rows[_name(groups, SAME_WIDTH)]
        cells = [
            f"{shown_ms(row, each)} ({ms(row, each) / ms(dense, each):.2f})" for each in runtimes
        ]
        share = f"{row['mmacs']:,.0f} ({row['mmacs'] / dense['mmacs']:.3g})"
        equal_channels.append([groups, share, *cells])
    return {
        "g2_macs": table(
            ["groups", "channels", "bytes", *labels(runtimes), "paper, ARM"], equal_macs
        ),
        "g2_channels": table(["groups", "MMACs", *labels(runtimes, unit="ms")], equal_channels),
    }


def _name(groups: int, channels: int) -> str:
    return f"{groups} groups, {channels} channels"


QUESTION = Question(measure, tables)
