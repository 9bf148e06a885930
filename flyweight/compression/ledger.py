"""The ledger: what every step of compression gave and cost, in one table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class LedgerRow:
    """One state of a detector.

    Attributes:
        stage: `torch fp32`, `folded`, `ONNX fp32`, `int8` ...
        AP, AP50: 0 to 1.
        ms: median latency of one image, milliseconds.
        mb: size of the file, 10^6 bytes.
    """

    stage: str
    AP: float
    AP50: float
    ms: float
    mb: float


@dataclass
class Ledger:
    """Rows in the order in which they came about; the first is what the others compare with."""

    rows: list[LedgerRow] = field(default_factory=list)

    def add(self, stage: str, *, AP: float, AP50: float, ms: float, mb: float) -> LedgerRow:
        """Append a row."""
        row = LedgerRow(stage, float(AP), float(AP50), float(ms), float(mb))
        self.rows.append(row)
        return row

    def to_dict(self) -> list[dict[str, Any]]:
        """`[{"stage", "AP", "AP50", "ms", "mb"}]`, rounded to what was measured."""
        return [
            {
                "stage": row.stage,
                "AP": round(row.AP, 4),
                "AP50": round(row.AP50, 4),
                "ms": round(row.ms, 2),
                "mb": round(row.mb, 2),
            }
            for row in self.rows
        ]

    def to_table(self, title: str = "What each step gave and cost") -> Table:
        """The ledger for a terminal: each figure, and beside it how it compares with the first."""
        from rich.table import Table

        table = Table(title=title)
        table.add_column("stage")
        for name in ("AP", "AP50", "ms", "MB"):
            table.add_column(name, justify="right")
        for row in self.rows:
            first = self.rows[0]
            same = row is first
            table.add_row(
                row.stage,
                f"{100 * row.AP:.1f}" + ("" if same else f" ({100 * (row.AP - first.AP):+.1f})"),
                f"{100 * row.AP50:.1f}"
                + ("" if same else f" ({100 * (row.AP50 - first.AP50):+.1f})"),
                f"{row.ms:.1f}" + ("" if same else _times(first.ms, row.ms)),
                f"{row.mb:.1f}" + ("" if same else _times(first.mb, row.mb)),
            )
        return table


def _times(before: float, after: float) -> str:
    """How many times less `after` is than `before`."""
    return f" ({before / after:.1f}×)" if after > 0 else ""
