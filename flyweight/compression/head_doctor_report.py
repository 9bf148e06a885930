"""The head doctor's findings as tables of a terminal and as a page."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from flyweight.compression.head_doctor import Diagnosis, LayerFinding
from flyweight.evaluation.paired import Interval
from flyweight.reports.page import Report, Section, table, write_report

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 12
PART_COLUMNS = ("part", "layers", "MMACs", "alone in int8", "all but it in int8")
LAYER_COLUMNS = (
    "layer",
    "kind",
    "scores, dB",
    "boxes, px",
    "guilty",
    "its range",
    "AP points lost",
)
NARROW = ("layer", "scores, dB", "boxes, px", "guilty", "AP lost")


def console_tables(diagnosis: Diagnosis) -> list[Table]:
    """AP by part of the network, and the worst layers."""
    from rich.table import Table

    parts = Table(title=f"AP points that int8 costs ({_images(diagnosis)})")
    worst = Table(title="the layers that int8 harms most")
    for made, columns, rows, words in (
        (parts, PART_COLUMNS, part_rows(diagnosis), 1),
        (worst, NARROW, [narrow_cells(each) for each in diagnosis.layers[:SHOWN]], 1),
    ):
        for index, name in enumerate(columns):
            made.add_column(name, justify="left" if index < words else "right", no_wrap=index == 0)
        for row in rows:
            made.add_row(*row)
    return [parts, worst]


def guilty_lines(diagnosis: Diagnosis) -> list[str]:
    """A line a guilty tensor: which it is, and why."""
    return [
        f"{each.layer.label}: {_tensor(each)} {why}."
        for each in diagnosis.guilty
        if (why := _why(each))
    ]


def _tensor(finding: LayerFinding) -> str:
    guilty = finding.guilty
    if guilty is None:
        return ""
    return (
        f"its {guilty.role} ({guilty.low:.3g} to {guilty.high:.3g}), rounded alone, leave"
        f"{'' if guilty.role == 'weights' else 's'} {guilty.scores_sqnr_db:.0f} dB of the scores:"
    )


def _why(finding: LayerFinding) -> str:
    return "; ".join(finding.reasons) or "nothing in its values stands out"


def write_doctor_report(diagnosis: Diagnosis, path: Path, *, title: str, subtitle: str) -> None:
    """Write one HTML file.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    reasons = [
        (
            each.layer.label,
            each.guilty.role,
            f"{each.guilty.sqnr_db:.0f}",
            f"{each.guilty.scores_sqnr_db:.0f}",
        )
        for each in diagnosis.guilty
        if each.guilty is not None
    ]
    sections = [
        Section(
            "Where AP is lost",
            table(PART_COLUMNS, part_rows(diagnosis)),
            f"AP points lost against float on {_images(diagnosis)}, with the 95 % interval over "
            "the choice of the images; negative is gained. Decoding stays in float.",
        ),
        Section(
            "The guilty tensors",
            table(("Layer", "its", "its own dB", "of the scores, dB"), reasons)
            + "".join(f"<p>{html.escape(line)}</p>" for line in guilty_lines(diagnosis))
            if reasons
            else "<p>No layer harms the scores enough to be blamed.</p>",
            "Layers that, alone in int8, leave the scores less than 30 dB above their error, or "
            "whose loss of AP is more than chance; of each the tensor that, rounded alone, harms "
            "the scores most. Six dB are a bit.",
        ),
        Section(
            "Every layer",
            table(LAYER_COLUMNS, [layer_cells(each) for each in diagnosis.layers]),
            "Each layer alone in int8, the worst first: how far the scores stay above their error, "
            "and how far boxes move.",
        ),
    ]
    write_report(Report(title, subtitle, sections=sections), path)


def part_rows(diagnosis: Diagnosis) -> list[tuple[str, ...]]:
    """Cells of `PART_COLUMNS`: the whole network first."""
    macs = sum(each.macs for each in diagnosis.groups)
    layers = sum(each.layers for each in diagnosis.groups)
    rows: list[tuple[str, ...]] = [
        ("everything", str(layers), f"{macs / 1e6:.0f}", points(diagnosis.loss), "–")
    ]
    for each in diagnosis.groups:
        rows.append(
            (
                each.group,
                str(each.layers),
                f"{each.macs / 1e6:.0f}",
                points(each.alone),
                points(each.without),
            )
        )
    return rows


def layer_cells(finding: LayerFinding) -> tuple[str, ...]:
    """Cells of `LAYER_COLUMNS`."""
    guilty = finding.guilty
    return (
        finding.layer.label,
        finding.layer.kind,
        f"{finding.alone.sqnr_db:.1f}",
        f"{finding.alone.box_error:.2f}",
        "–" if guilty is None else guilty.role,
        "–" if guilty is None else f"{guilty.low:.3g} to {guilty.high:.3g}",
        "–" if finding.loss is None else points(finding.loss),
    )


def narrow_cells(finding: LayerFinding) -> tuple[str, ...]:
    """Cells of `NARROW`: what a terminal has room for."""
    label, _, scores, boxes, guilty, *_ = layer_cells(finding)
    lost = "–" if finding.loss is None else f"{100 * finding.loss.value:+.2f}"
    return label, scores, boxes, guilty, lost


def points(loss: Interval) -> str:
    """A loss of AP, 0 to 1, as points with its interval."""
    return f"{100 * loss.value:+.2f} ({100 * loss.low:+.2f} to {100 * loss.high:+.2f})"


def _images(diagnosis: Diagnosis) -> str:
    return f"{diagnosis.images} images, float {100 * diagnosis.AP:.1f}"
