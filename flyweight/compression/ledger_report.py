"""The ledger as a page: its table, and accuracy against what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flyweight.compression.ledger import Ledger, LedgerRow
from flyweight.reports.charts import Line, line_chart
from flyweight.reports.page import Report, Section, charts, table, write_report

COLUMNS = ("Stage", "AP", "AP against the start", "AP50", "M parameters", "GMACs", "MB")

# Dots nearer to each other than this share of an axis are named together.
CLOSE = 0.06


def write_ledger_report(ledger: Ledger, path: Path, *, title: str, subtitle: str = "") -> None:
    """Write one HTML file.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    runtimes = sorted({name for row in ledger.rows for name in row.runtimes})
    rows = [_cells(row, runtimes) for row in ledger.rows]
    body = table((*COLUMNS, *(f"ms, {name}" for name in runtimes)), rows)
    note = (
        "Each row is measured on the same images. Behind a difference stand the ends of its 95 % "
        "interval over the choice of the images; it does not answer for the luck of a training run."
    )
    sections = [
        Section("After each stage", body, note),
        Section("What accuracy costs", charts(_charts(ledger, runtimes))),
    ]
    write_report(Report(title, subtitle, sections=sections), path)


def _cells(row: LedgerRow, runtimes: list[str]) -> list[str]:
    times = [f"{row.runtimes[name]:.1f}" if name in row.runtimes else "–" for name in runtimes]
    return [
        row.stage,
        f"{row.AP:.3f}",
        _difference(row),
        f"{row.AP50:.3f}",
        "–" if row.params is None else f"{row.params / 1e6:.2f}",
        "–" if row.macs is None else f"{row.macs / 1e9:.3f}",
        f"{row.mb:.2f}",
        *times,
    ]


def _difference(row: LedgerRow) -> str:
    if row.difference is None:
        return "–"
    gain = row.difference.AP
    cell = f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
    return cell.replace("-", "\N{MINUS SIGN}")


def _charts(ledger: Ledger, runtimes: list[str]) -> list[str]:
    """AP over each cost, a dot a stage, in the order of the stages."""
    costs: dict[str, list[float | None]] = {
        "MB": [row.mb for row in ledger.rows],
        **{f"ms, {name}": [row.runtimes.get(name) for row in ledger.rows] for name in runtimes},
    }
    drawn = []
    for label, values in costs.items():
        known = [
            (value, row.AP, row.stage)
            for value, row in zip(values, ledger.rows, strict=True)
            if value is not None
        ]
        x, y, stages = zip(*known, strict=True)
        line = Line("AP", x, y, dots=True, labels=_beside(x, y, stages))
        # Room for the label of the dearest, which stands to its right.
        drawn.append(
            line_chart([line], title=f"AP and {label}", x_label=label, x_range=(0, 1.3 * max(x)))
        )
    return drawn


def _beside(x: Sequence[float], y: Sequence[float], names: Sequence[str]) -> list[str]:
    """What stands beside each dot: of dots that nearly touch, all names at the first of them."""
    shown = list(names)
    for late in range(1, len(names)):
        for early in range(late):
            close = all(
                abs(values[early] - values[late]) < CLOSE * max(values) for values in (x, y)
            )
            if close and shown[early]:
                shown[early], shown[late] = f"{shown[early]}, {shown[late]}", ""
                break
    return shown
