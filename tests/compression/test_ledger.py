from __future__ import annotations

import io

from rich.console import Console

from flyweight.compression.ledger import Ledger


def test_rows_become_a_dict_and_a_table() -> None:
    ledger = Ledger()
    ledger.add("torch fp32", AP=0.5, AP50=0.91237, ms=40.0, mb=12.0)
    ledger.add("int8", AP=0.49, AP50=0.9, ms=10.004, mb=3.0)
    assert ledger.to_dict() == [
        {"stage": "torch fp32", "AP": 0.5, "AP50": 0.9124, "ms": 40.0, "mb": 12.0},
        {"stage": "int8", "AP": 0.49, "AP50": 0.9, "ms": 10.0, "mb": 3.0},
    ]
    console = Console(width=100, file=io.StringIO())
    console.print(ledger.to_table())
    text = console.file.getvalue()
    for figure in ("torch fp32", "50.0", "49.0 (-1.0)", "91.2", "10.0 (4.0×)", "3.0 (4.0×)"):
        assert figure in text
