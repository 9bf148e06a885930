"""Charts as inline SVG, small and readable in any browser."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# colours that stay apart for colour-blind readers (Okabe & Ito 2008), darkened for white
PALETTE = ("#0b62a4", "#d1600a", "#14835c", "#a8417f", "#6b7280", "#8a6d00", "#3a86c8", "#b23a3a")
INK, SOFT, GRID = "#1f2937", "#6b7280", "#e5e7eb"
STYLE: dict[Any, Any] = {
    # text as text, in the page's own font, instead of as outlines
    "svg.fonttype": "none",
    # the same chart gives the same bytes
    "svg.hashsalt": "flyweight",
    "font.family": "sans-serif",
    # class names are shown as they are, dollar signs too
    "text.parse_math": False,
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@dataclass(frozen=True)
class Line:
    """One line of a chart: `x [N]`, `y [N]`; with `dots` on it, and `labels [N]` beside these."""

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    dots: bool = False
    labels: Sequence[str] = ()


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    marked_x: float | None = None,
    marked_label: str = "",
) -> str:
    """Lines over one pair of axes, as an `<svg>` element.

    Args:
        x_range, y_range: limits of the axes; None fits the data, from 0 on for y.
        marked_x: where a dashed upright line goes, with `marked_label` at its top.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.1), layout="constrained")
        axes = figure.subplots()
        for line, colour in zip(lines, _colours(len(lines)), strict=True):
            single = len(line.x) == 1
            axes.plot(
                line.x, line.y, color=colour, label=_label(line.name), linewidth=1.8,
                marker="o" if line.dots or single else None, markersize=3.5,
            )  # fmt: skip
            for x, y, label in zip(line.x, line.y, line.labels, strict=False):
                axes.annotate(
                    label, (x, y), textcoords="offset points", xytext=(6, -11), color=SOFT,
                    fontsize=9,
                )  # fmt: skip
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=10)
        axes.set_xlabel(x_label)
        axes.tick_params(length=0)
        if x_range is not None:
            axes.set_xlim(*x_range)
        if y_range is None:
            axes.set_ylim(bottom=0)
        else:
            axes.set_ylim(*y_range)
        if marked_x is not None:
            axes.axvline(marked_x, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                marked_label, (marked_x, 1.0), xycoords=("data", "axes fraction"),
                textcoords="offset points", xytext=(-4, -2), ha="right", va="top",
                color=SOFT, fontsize=9,
            )  # fmt: skip
        if len(lines) > 1:
            axes.legend(fontsize=9, handlelength=1.4, ncols=1 + (len(lines) > 5))
        return as_svg(figure, title)


def _label(name: str) -> str:
    # matplotlib hides labels that start with an underscore
    return f"\u200b{name}" if name.startswith("_") else name


def _colours(count: int) -> list[str]:
    return [PALETTE[index % len(PALETTE)] for index in range(count)]


def as_svg(figure: Any, title: str) -> str:
    """A matplotlib figure as an `<svg>` element; give the figure within `rc_context(STYLE)`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # the page decides how wide a chart is; its view box keeps the proportions
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    # several charts share one page, so ids must not meet
    mark = re.sub(r"\W+", "-", title.lower())
    svg = re.sub(r'\bid="', f'id="{mark}-', svg)
    svg = re.sub(r"url\(#", f"url(#{mark}-", svg)
    svg = re.sub(r'href="#', f'href="#{mark}-', svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)
