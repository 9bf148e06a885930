"""The ledger's page: a row a stage, a chart a cost."""

from __future__ import annotations

from pathlib import Path

from flyweight.compression.ledger import Ledger
from flyweight.compression.ledger_report import write_ledger_report
from flyweight.evaluation.paired import Difference, Interval
from tests.html_page import Page, refers_outside


def test_the_page_has_every_stage_with_its_interval(tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.add(
        "start", AP=0.5, AP50=0.8, ms=9.0, mb=4.0, params=10**6, macs=5 * 10**8,
        runtimes={"torch": 20.0, "onnxruntime": 9.0},
    )  # fmt: skip
    lost = Interval(-0.02, -0.05, 0.01)
    ledger.add(
        "int8", AP=0.48, AP50=0.79, ms=3.0, mb=1.0, runtimes={"onnxruntime": 3.0},
        difference=Difference(lost, lost, lost),
    )  # fmt: skip
    path = tmp_path / "ledger.html"
    write_ledger_report(ledger, path, title="a & b")
    text = path.read_text(encoding="utf-8")
    assert not refers_outside(text)
    page = " | ".join(Page(text).text)
    assert "start | 0.500 | – | 0.800 | 1.00 | 0.500 | 4.00 | 9.0 | 20.0" in page
    assert "int8 | 0.480 | −0.020 (−0.050 to +0.010) | 0.790 | – | – | 1.00 | 3.0 | –" in page
    assert text.count("<svg") == 3
    assert ledger.to_dict()[1]["difference"]["AP"] == {"value": -0.02, "low": -0.05, "high": 0.01}
    assert "params" not in ledger.to_dict()[1]
