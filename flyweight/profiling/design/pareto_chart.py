"""The Pareto plot: what every candidate costs and is worth, and which are worth training."""

from __future__ import annotations

from flyweight.profiling.design.budget import SHOWN
from flyweight.profiling.design.design import Design
from flyweight.profiling.design.search import Designed
from flyweight.reports.charts import PALETTE, SOFT, STYLE, as_svg

TITLE = "Capacity against price"
# Prices beyond this many budgets are not drawn: they would push the rest to the left.
WIDEST = 4.0
ACCENT, CHOSEN = PALETTE[0], PALETTE[1]


def pareto_chart(found: Design) -> str:
    """Candidates, their Pareto front, the budget and the recommended ones, as an `<svg>`."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    unit, ones = SHOWN[found.budget.metric]
    limit = found.budget.limit / ones

    def points(designed: list[Designed]) -> tuple[list[float], list[float]]:
        drawn = [each for each in designed if each.spent / ones <= WIDEST * limit]
        return [each.spent / ones for each in drawn], [each.capacity.value for each in drawn]

    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.scatter(*points(found.tried), s=14, color="#9ca3af", linewidths=0, label="candidates")
        axes.step(*points(found.front), where="post", color=ACCENT, linewidth=1.6)
        axes.scatter(*points(found.front), s=22, color=ACCENT, linewidths=0, label="Pareto front")
        x, y = points(found.recommended)
        axes.scatter(x, y, s=150, color=CHOSEN, edgecolors="white", zorder=4, label="recommended")
        for place, point in enumerate(zip(x, y, strict=True), start=1):
            axes.annotate(
                str(place), point, ha="center", va="center_baseline", zorder=5,
                color="white", fontsize=9, fontweight="bold",
            )  # fmt: skip
        axes.axvline(limit, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"budget {found.budget.shown(found.budget.limit)}", (limit, 1.0),
            xycoords=("data", "axes fraction"), textcoords="offset points", xytext=(5, -2),
            va="top", color=SOFT, fontsize=9,
        )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5), numticks=20))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel(f"price, {unit}")
        axes.set_ylabel("capacity (a proxy, 0 to 1)")
        axes.tick_params(length=0, which="both")
        axes.set_title(TITLE, loc="left", fontsize=11, fontweight="bold", pad=10)
        axes.legend(fontsize=9, loc="lower right")
        return as_svg(figure, TITLE)
