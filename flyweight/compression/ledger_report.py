"""The ledger as a page: its table, and accuracy against what it costs."""

from __future__ import annotations

from pathlib import Path

from flyweight.compression.ledger import Ledger, LedgerRow
from flyweight.reports.charts import Line, line_chart
from flyweight.reports.page import Report, Section, charts, table, write_report

COLUMNS = ("Stage", "AP", "AP against the start", "AP50", "M parameters", "GMACs", "MB")


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
    return f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"


def _charts(ledger: Ledger, runtimes: list[str]) -> list[str]:
    """AP over each cost, a dot a stage, in the order of the stages."""
    costs: dict[str, list[float | None]] = {
        "MB": [row.mb for row in ledger.rows],
        **{f"ms, {name}": [row.runtimes.get(name) for row in ledger.rows] for name in runtimes},
    }
    drawn = []
    for label, values in costs.items():
        known = [
            (value, row.AP)
            for value, row in zip(values, ledger.rows, strict=True)
            if value is not None
        ]
        line = Line("AP", [x for x, _ in known], [y for _, y in known], dots=True)
        largest = 1.05 * max(x for x, _ in known)
        drawn.append(
            line_chart([line], title=f"AP and {label}", x_label=label, x_range=(0, largest))
        )
    return drawn
