"""What `flyweight profile --advice` says and applies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from flyweight.data.records import DetectionDataset
    from flyweight.models.detectors.detector import Detector
    from flyweight.profiling.advice.context import Context, Target
    from flyweight.profiling.latency_model import LatencyModel
    from flyweight.reports.page import Section

NAMED_LAYERS = 3


def target(runtime: str | None, *, precision: str, train_batch: int | None) -> Target:
    """What the detector is made for."""
    from flyweight.profiling.advice.context import Target

    made_for = Target(precision=precision, batch_size=train_batch)
    return made_for if runtime is None else replace(made_for, runtime=runtime)


def context_for(
    detector: Detector,
    *,
    latency: LatencyModel | None,
    dataset: DetectionDataset | None,
    target: Target,
) -> Context:
    """What the rules look at."""
    from flyweight.profiling.advice.context import context_of

    return context_of(detector.config, latency=latency, dataset=dataset, target=target)


def apply_advice(context: Context, path: Path) -> dict[str, Any]:
    """Carry out what a field of the config can, and write a preset if anything was changed."""
    from flyweight.models.detectors.preset_file import write_preset
    from flyweight.models.detectors.zoo import preset_of
    from flyweight.profiling.advice.apply import improve

    improved = improve(context)
    done = [f"{each.rule}: {each.change}" for each in improved.applied]
    if done:
        about = "\n".join(["Advised:", *done])
        write_preset(preset_of(improved.config), path, about=about)
    saving = improved.saving
    return {
        "preset": str(path) if done else None,
        "applied": done,
        "saved_ms": saving.milliseconds,
        "saved_params": saving.params,
        "saved_macs": saving.macs,
        "saved_bytes": saving.access_bytes,
    }


def advice_section(rows: list[dict[str, Any]]) -> Section:
    """For the page."""
    from flyweight.reports.page import Section

    body = "".join(_advice_html(row) for row in rows) or "<p>Nothing to say.</p>"
    return Section("Advice", body, "Savings are of one change at a time, predicted, not measured.")


def _advice_html(row: dict[str, Any]) -> str:
    import html

    layers = ", ".join(row["layers"][:NAMED_LAYERS])
    more = len(row["layers"]) - NAMED_LAYERS
    layers += f" and {more} more" if more > 0 else ""
    lines = (row["change"], f"Saves {_saving(row)}", f"Layers: {layers}" if layers else "")
    body = "<br>".join(html.escape(line) for line in lines if line)
    return (
        f"<h3>{html.escape(row['rule'].replace('_', ' '))}</h3><p>{html.escape(row['finding'])}"
        f'</p><p class="note">{body}</p>'
    )


def _saving(row: dict[str, Any]) -> str:
    """A figure is negative where the change costs more."""
    from flyweight.profiling.quantity import megabytes, milliseconds, quantity

    parts = [] if row["saved_ms"] is None else [milliseconds(row["saved_ms"])]
    parts += [
        f"{quantity(row['saved_params'])} parameters",
        f"{quantity(row['saved_macs'])} MACs",
        f"{megabytes(row['saved_bytes'])} read and written",
    ]
    return ", ".join(parts)


def render_advice(console: Console, rows: list[dict[str, Any]]) -> None:
    """A paragraph a finding."""
    for row in rows:
        console.print(row["rule"].replace("_", " "), style="bold")
        for line in (row["finding"], f"→ {row['change']}", f"saves {_saving(row)}"):
            console.print(f"  {line}", markup=False)
    if not rows:
        console.print("no rule has anything to say", style="dim")


def render_applied(console: Console, applied: dict[str, Any]) -> None:
    """What was changed, and what all of it saves."""
    if not applied["applied"]:
        console.print("no field of the config does what is advised: nothing is written")
        return
    for line in applied["applied"]:
        console.print(f"applied  {line}", markup=False)
    console.print(f"saves    {_saving(applied)}", markup=False)
    console.print(f"written  {applied['preset']}", markup=False, soft_wrap=True)
