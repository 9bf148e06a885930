"""G3: branches cut the degree of parallelism (ShuffleNetV2, table 3).

Ten blocks of one, two or four 1×1 convolutions on 56×56 cells, in series or beside each other and
added, at about as many MACs; widths are the multiples of 8 next to the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from questions.markdown import by_name, joined, labels, per_mac, runtimes_of, table
from questions.timing import Candidate, Question, Setting, stack, time_candidates

SIDE, BLOCKS = 56, 10
# channels of the one convolution: those of its fragments, where there are two and four
WIDTHS = {64: {1: 64, 2: 48, 4: 32}, 128: {1: 128, 2: 88, 4: 64}, 256: {1: 256, 2: 184, 4: 128}}
# images a second on ARM in the paper's table 3, by fragments and arrangement
PAPER = {
    (1, "series"): (40.2, 10.1, 2.3),
    (2, "series"): (38.6, 10.1, 2.2),
    (4, "series"): (38.4, 10.1, 2.3),
    (2, "parallel"): (33.4, 9.1, 2.2),
    (4, "parallel"): (35.0, 8.4, 2.1),
}


class Parallel(nn.ModuleList):
    """Convolutions of the same input, added."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        first, *others = [branch(x) for branch in self]
        for each in others:
            first = first + each
        return first


def candidates() -> list[Candidate]:
    """Every arrangement at every width."""
    return [
        Candidate(
            _name(fragments, arrangement, width),
            stack(_layers(fragments, arrangement, fitting[fragments]), side=SIDE),
        )
        for width, fitting in WIDTHS.items()
        for fragments, arrangement in PAPER
    ]


def measure(setting: Setting) -> dict[str, Any]:
    """All of them."""
    return {"rows": time_candidates(candidates(), setting)}


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Time a MAC relative to one fragment."""
    rows, runtimes = by_name(result), runtimes_of(result)
    lines = []
    for key, speeds in PAPER.items():
        pairs = [(rows[_name(*key, each)], rows[_name(1, "series", each)]) for each in WIDTHS]
        lines.append(
            [
                "1" if key[0] == 1 else f"{key[0]}, {key[1]}",
                " / ".join(str(fitting[key[0]]) for fitting in WIDTHS.values()),
                *(joined(per_mac(*pair, each) for pair in pairs) for each in runtimes),
                joined(a / b for a, b in zip(PAPER[1, "series"], speeds, strict=True)),
            ]
        )
    return {"g3": table(["fragments", "channels", *labels(runtimes), "paper, ARM"], lines)}


def _layers(fragments: int, arrangement: str, channels: int) -> Sequence[nn.Module]:
    def several() -> list[nn.Module]:
        return [nn.Conv2d(channels, channels, 1) for _ in range(fragments)]

    if arrangement == "parallel":
        return [Parallel(several()) for _ in range(BLOCKS)]
    return [layer for _ in range(BLOCKS) for layer in several()]


def _name(fragments: int, arrangement: str, width: int) -> str:
    return f"{fragments} in {arrangement}, {width}"


QUESTION = Question(measure, tables)
