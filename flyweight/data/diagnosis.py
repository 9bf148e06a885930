"""What the doctor found: findings, worst first, and the tables behind them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from flyweight.data.anchor_recall import AnchorRecall

Severity = Literal["error", "warning", "info"]
_ORDER: dict[str, int] = {"error": 0, "warning": 1, "info": 2}
EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """One kind of fault.

    Attributes:
        severity: `error`, `warning` or `info`.
        code: its name, stable for scripts.
        message: what is wrong, in a sentence.
        count: how often.
        where: the first places (file, image or field).
        fix: what to do.
    """

    severity: Severity
    code: str
    message: str
    count: int
    where: tuple[str, ...]
    fix: str


@dataclass(frozen=True)
class Diagnosis:
    """All findings, worst first, and the tables behind them."""

    findings: tuple[Finding, ...]
    tables: dict[str, Any]
    recall: AnchorRecall | None = None

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        recall = None if self.recall is None else self.recall.to_dict()
        findings = [asdict(finding) for finding in self.findings]
        return {"ok": self.ok, "findings": findings, "tables": self.tables, "anchor_recall": recall}

    def to_text(self) -> str:
        """The findings for a terminal, one or two lines each."""
        lines = []
        for one in self.findings:
            places = ", ".join(one.where) + (", ..." if one.count > len(one.where) else "")
            lines.append(f"{one.severity}: {one.message} [{one.code}, {one.count}]: {places}")
            lines.append(f"    {one.fix}")
        if not self.findings:
            lines.append("nothing to complain about")
        if self.recall is not None:
            lines += ["", self.recall.to_text()]
        return "\n".join(lines)


@dataclass
class Collector:
    """Findings while they are being collected: places by code, and one advice a code."""

    places: dict[str, list[str]] = field(default_factory=dict)
    advice: dict[str, tuple[Severity, str, str]] = field(default_factory=dict)

    def note(self, severity: Severity, code: str, message: str, where: str, fix: str) -> None:
        self.advice.setdefault(code, (severity, message, fix))
        self.places.setdefault(code, []).append(where)

    def findings(self) -> tuple[Finding, ...]:
        found = [
            Finding(severity, code, message, len(places), tuple(places[:EXAMPLES]), fix)
            for code, places in self.places.items()
            for severity, message, fix in (self.advice[code],)
        ]
        return tuple(sorted(found, key=lambda one: (_ORDER[one.severity], -one.count)))
