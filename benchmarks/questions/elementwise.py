"""G4: element-wise operations are not free (ShuffleNetV2, table 4).

Ten of ResNet's bottleneck units (1×1, 3×3, 1×1; a quarter of the channels inside) on 56×56 cells,
without their ReLUs, their shortcuts or both, and with an activation that runtimes do not fuse.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from flyweight.models.layers.activations import ActFactory, hard_swish, relu
from flyweight.models.layers.conv import ConvNormAct
from questions.markdown import by_name, joined, labels, ms, runtimes_of, table
from questions.timing import Candidate, Question, Setting, stack, time_candidates

SIDE, UNITS = 56, 10
WIDTHS = (32, 64, 128)
# images a second on ARM in the paper's table 4, by activation and shortcut
PAPER: dict[tuple[str, bool], tuple[float, ...]] = {
    ("ReLU", True): (56.7, 16.9, 5.0),
    ("ReLU", False): (61.9, 18.8, 5.2),
    ("none", True): (57.3, 18.2, 5.1),
    ("none", False): (66.3, 20.2, 5.4),
}
ACTIVATIONS: dict[str, ActFactory | None] = {"ReLU": relu, "none": None, "h-swish": hard_swish}
VARIANTS = (*PAPER, ("h-swish", True))


class Bottleneck(nn.Module):
    """ResNet's unit, https://arxiv.org/abs/1512.03385, figure 5, norms folded."""

    def __init__(self, channels: int, *, act: ActFactory | None, shortcut: bool) -> None:
        super().__init__()
        inner = channels // 4
        self.layers = nn.Sequential(
            ConvNormAct(channels, inner, kernel_size=1, norm=None, act=act),
            ConvNormAct(inner, inner, kernel_size=3, norm=None, act=act),
            ConvNormAct(inner, channels, kernel_size=1, norm=None, act=None),
        )
        self.act = nn.Identity() if act is None else act()
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        y = self.layers(x)
        after: Tensor = self.act(x + y if self.shortcut else y)
        return after


def candidates() -> list[Candidate]:
    """Every variant at every width."""
    return [
        Candidate(
            _name(activation, shortcut, width),
            stack(
                [
                    Bottleneck(width, act=ACTIVATIONS[activation], shortcut=shortcut)
                    for _ in range(UNITS)
                ],
                side=SIDE,
            ),
        )
        for width in WIDTHS
        for activation, shortcut in VARIANTS
    ]


def measure(setting: Setting) -> dict[str, Any]:
    """All of them."""
    return {"rows": time_candidates(candidates(), setting)}


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Time relative to the unit with both."""
    rows, runtimes = by_name(result), runtimes_of(result)
    lines = []
    for key in VARIANTS:
        pairs = [(rows[_name(*key, each)], rows[_name("ReLU", True, each)]) for each in WIDTHS]
        paper = [a / b for a, b in zip(PAPER["ReLU", True], PAPER.get(key, ()), strict=False)]
        lines.append(
            [
                key[0],
                "yes" if key[1] else "no",
                joined(row["access_mb"] / base["access_mb"] for row, base in pairs),
                *(
                    joined(ms(row, each) / ms(base, each) for row, base in pairs)
                    for each in runtimes
                ),
                joined(paper) or "–",
            ]
        )
    head = ["activation", "shortcut", "bytes", *labels(runtimes), "paper, ARM"]
    return {"g4": table(head, lines, words=2)}


def _name(activation: str, shortcut: bool, width: int) -> str:
    return f"{activation}, {'shortcut' if shortcut else 'no shortcut'}, {width}"


QUESTION = Question(measure, tables)
