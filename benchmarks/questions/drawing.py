"""Pictures of the article: SVG files that stand alone, in the reports' style."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flyweight.reports.charts import STYLE, as_svg


def drawing(draw: Callable[[Any], None], title: str, *, size: tuple[float, float]) -> str:
    """What `draw` puts on a matplotlib figure of `size` inches, as an SVG file's content."""
    from cycler import cycler
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from flyweight.reports.charts import PALETTE

    with rc_context(STYLE | {"axes.prop_cycle": cycler(color=PALETTE)}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        svg = as_svg(figure, title)
    # A page may be dark; the letters are.
    return svg.replace("<svg ", '<svg style="background: white" ', 1) + "\n"
