"""What `flyweight profile` shows at a terminal, in 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flyweight.cli.profile_advice import render_advice, render_applied
from flyweight.cli.profile_measure import render_measured

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from flyweight.profiling.level_view import LevelView


def render(console: Console, content: dict[str, Any], by: str) -> None:
    """All that was found; a row a stage, layer or operator, as `by` says."""
    _render_parts(console, content, by)
    _render_levels(console, content)
    if "predicted" in content:
        told = content["predicted"]
        console.print(f"predicted: {told['milliseconds']:.2f} ms on {told['device']}", markup=False)
        if told["unknown"]:
            kinds = ", ".join(told["unknown"])
            console.print(f"priced as additions, for want of a measurement: {kinds}", style="dim")
    if "measured" in content:
        render_measured(console, content["measured"])
    if "advice" in content:
        render_advice(console, content["advice"])
    if "applied" in content:
        render_applied(console, content["applied"])
    if "html" in content:
        console.print(f"drawn in {content['html']}", markup=False, soft_wrap=True)


def render_calibrated(console: Console, content: dict[str, Any]) -> None:
    """What a calibration did."""
    console.print(
        f"{content['device']}: {content['file']}",
        markup=False,
        soft_wrap=True,
    )


def _render_parts(console: Console, content: dict[str, Any], by: str) -> None:
    from flyweight.profiling.quantity import megabytes, quantity

    batch, _, height, width = content["input_shape"]
    folded = ", BatchNorm folded" if content["folded"] else ""
    table = _table(by, "parameters", "MACs", "access", "in use", "field")
    table.title = f"{content['model']}, {batch} × {height}×{width}{folded}"
    # At a terminal names give way to figures; what is read by a program has them whole.
    room = max(20, console.width - 64) if console.is_terminal else 1000

    def add(name: str, part: dict[str, Any], field: str, style: str | None = None) -> None:
        shared = (
            f"{text(part[key])} {100 * part[key] / max(content[key], 1):3.0f}%"
            for key, text in (
                ("params", quantity),
                ("macs", quantity),
                ("memory_access_bytes", megabytes),
            )
        )
        name = name if len(name) <= room else f"…{name[1 - room :]}"
        table.add_row(name, *shared, megabytes(part["peak_activation_bytes"]), field, style=style)

    for part in content[f"{by}s"]:
        seen = part["receptive_field"]
        add(part["name"], part, "–" if seen is None else f"{seen} px")
    table.add_section()
    add("all", content, "", style="bold")
    console.print(table)
    console.print(
        "access: bytes read and written; in use: activations in memory while it runs, most of all "
        f"in {content['peak_layer']}; field: receptive field, side in pixels of the input",
        style="dim",
        markup=False,
    )


def _table(first: str, *columns: str) -> Table:
    """A narrow one: names, then figures."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _render_levels(console: Console, content: dict[str, Any]) -> None:
    levels: list[LevelView] = content["levels"]
    if not levels:
        return
    effective = ["effectively"] if levels[0].effective_field is not None else []
    table = _table("level", "cells", "sees", *effective, "anchors, √(w·h)")
    for level in levels:
        rows, columns = level.grid
        sides = sorted((w * h) ** 0.5 for w, h in level.anchors_wh)
        seen = "everything" if level.receptive_field is None else f"{level.receptive_field} px"
        table.add_row(
            f"stride {level.stride}",
            f"{rows}×{columns}",
            seen,
            *(f"{level.effective_field} px" for _ in effective),
            f"{sides[0]:.0f} to {sides[-1]:.0f} px",
        )
    console.print(table)
