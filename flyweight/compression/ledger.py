"""The ledger: what every step of compression gave and cost, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from flyweight.evaluation.paired import Difference

CAPTION = "* more than chance: its 95 % interval over the choice of images leaves out zero"


@dataclass(frozen=True)
class LedgerRow:
    """One state of a detector.

    Attributes:
        stage: `torch fp32`, `folded`, `ONNX fp32`, `int8` ...
        AP, AP50: 0 to 1.
        ms: median latency of one image, milliseconds.
        mb: size of the file, 10^6 bytes.
        params, macs: of the network for one image; None where nobody counted.
        runtimes: milliseconds in each runtime that runs it; `ms` is the least of them.
        difference: what it has more than the first row on the same images; None of the first.
    """

    stage: str
    AP: float
    AP50: float
    ms: float
    mb: float
    params: int | None = None
    macs: int | None = None
    runtimes: Mapping[str, float] = field(default_factory=dict)
    difference: Difference | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, rounded to what was measured; without what nobody measured."""
        content: dict[str, Any] = {
            "stage": self.stage,
            "AP": round(self.AP, 4),
            "AP50": round(self.AP50, 4),
            "ms": round(self.ms, 2),
            "mb": round(self.mb, 2),
        }
        if self.params is not None:
            content["params"] = self.params
        if self.macs is not None:
            content["macs"] = self.macs
        if self.runtimes:
            content["runtimes"] = {name: round(ms, 2) for name, ms in self.runtimes.items()}
        if self.difference is not None:
            content["difference"] = self.difference.to_dict()
        return content


@dataclass
class Ledger:
    """Rows in the order in which they came about; the first is what the others compare with."""

    rows: list[LedgerRow] = field(default_factory=list)

    def add(
        self, stage: str, *, AP: float, AP50: float, ms: float, mb: float, **rest: Any
    ) -> LedgerRow:
        """Append a row; `rest` are its other fields."""
        row = LedgerRow(stage, float(AP), float(AP50), float(ms), float(mb), **rest)
        self.rows.append(row)
        return row

    def to_dict(self) -> list[dict[str, Any]]:
        """`[{"stage", "AP", "AP50", "ms", "mb", ...}]`: each row's own."""
        return [row.to_dict() for row in self.rows]

    def to_table(self, title: str = "What each step gave and cost") -> Table:
        """The ledger for a terminal: each figure, and beside it how it compares with the first."""
        from rich.table import Table

        counted = any(row.macs is not None for row in self.rows)
        names = ["AP", "AP50", *(("M params", "GMACs") if counted else ()), "ms", "MB"]
        told = any(row.difference is not None for row in self.rows)
        table = Table(title=title, caption=CAPTION if told else None)
        table.add_column("stage", no_wrap=True)
        for name in names:
            table.add_column(name, justify="right")
        for row in self.rows:
            first = self.rows[0]
            same = row is first
            cells = [
                f"{100 * row.AP:.1f}" + ("" if same else f" ({_gain(row, first)})"),
                f"{100 * row.AP50:.1f}"
                + ("" if same else f" ({100 * (row.AP50 - first.AP50):+.1f})"),
            ]
            if counted:
                cells += [_scaled(row.params, 1e6), _scaled(row.macs, 1e9)]
            cells += [
                f"{row.ms:.1f}" + ("" if same else _times(first.ms, row.ms)),
                f"{row.mb:.1f}" + ("" if same else _times(first.mb, row.mb)),
            ]
            table.add_row(row.stage, *cells)
        return table


def _gain(row: LedgerRow, first: LedgerRow) -> str:
    """AP points more than the first row, with a star where that is more than chance."""
    star = "*" if row.difference is not None and row.difference.more_than_chance else ""
    return f"{100 * (row.AP - first.AP):+.1f}{star}"


def _scaled(count: int | None, unit: float) -> str:
    return "–" if count is None else f"{count / unit:.3g}"


def _times(before: float, after: float) -> str:
    """How many times less `after` is than `before`."""
    return f" ({before / after:.1f}×)" if after > 0 else ""
