"""What `flyweight profile` measures on this device: layers, its limits, and its calibration."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyweight.cli.output import note, progress_bar
from flyweight.core.errors import CheckError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from flyweight.models.detectors.detector import Detector
    from flyweight.profiling.ceilings import Ceilings
    from flyweight.profiling.layer_times import LayerTimes
    from flyweight.profiling.roofline import RooflinePoint
    from flyweight.reports.page import Section

RUNTIMES = ("torch", "onnxruntime", "openvino")
LONGEST = 12


def checked_runtime(runtime: str) -> str:
    """The runtime, if layers can be measured in it."""
    if runtime not in RUNTIMES:
        raise InputError(f"unknown runtime '{runtime}'", fix=f"choose {', '.join(RUNTIMES)}")
    return runtime


def measure(detector: Detector, runtime: str, *, threads: int | None) -> LayerTimes:
    """Time the layers of `detector` with the runtime's own profiler, exported where it must be."""
    note(f"measuring each layer in {runtime}; let the machine do nothing else")
    if runtime == "torch":
        import torch

        from flyweight.profiling.torch_times import time_layers as in_torch

        network = detector.model.to(memory_format=torch.channels_last)
        images = torch.zeros((1, *detector.preprocessing.size_hw, 3)).permute(0, 3, 1, 2)
        return in_torch(network, images, threads=threads)
    from flyweight.export.export import export

    with tempfile.TemporaryDirectory() as folder:
        if runtime == "onnxruntime":
            from flyweight.profiling.onnxruntime_times import time_layers
        else:
            from flyweight.profiling.openvino_times import time_layers
        kind = "onnx" if runtime == "onnxruntime" else runtime
        [made] = export(detector, [kind], folder, name="measured", say=note)
        return time_layers(Path(made.path), threads=threads)


@dataclass(frozen=True)
class Roofline:
    """Where layers stand under the machine's limits, or why that cannot be said.

    Attributes:
        ceilings: None where they could not be measured.
        points: of the layers.
        notes: sentences: what is above the roof, or why there is none.
    """

    ceilings: Ceilings | None
    points: list[RooflinePoint]
    notes: list[str]


def measure_roofline(detector: Detector, times: LayerTimes) -> Roofline:
    """This machine's limits, and where each layer stands under them."""
    from flyweight.profiling.ceilings import measure_ceilings
    from flyweight.profiling.roofline import measured_roofline, why_above
    from flyweight.profiling.trace import trace_detector

    # As it ran: an exported file has its norms folded.
    cost = trace_detector(detector, folded=times.runtime != "torch")
    try:
        ceilings, points = measured_roofline(
            cost,
            times.by_layer(),
            lambda: measure_ceilings(threads=times.threads),
            runtime=times.runtime,
        )
    except CheckError as error:  # the layers' times stand without it
        return Roofline(None, [], [f"No roofline: {error}."])
    notes = why_above(points)
    if ceilings.disturbed:
        notes.append("Other processes used the cores all the while: the machine may do more.")
    return Roofline(ceilings, points, notes)


def measured_content(times: LayerTimes, found: Roofline) -> dict[str, Any]:
    """For JSON."""
    return {
        "runtime": times.runtime,
        "threads": times.threads,
        "run": asdict(times.run),
        "profiled_run": asdict(times.profiled_run),
        "layers_milliseconds": times.sum_of_layers,
        "layers": [asdict(each) for each in times.layers],
        "ceilings": None if found.ceilings is None else asdict(found.ceilings),
        "roofline": [
            {**asdict(each), "intensity": each.intensity, "share": each.share}
            for each in found.points
        ],
        "notes": [*times.notes(), *found.notes],
    }


def roofline_section(found: Roofline, runtime: str) -> Section:
    """For the page."""
    import html

    from flyweight.profiling.roofline import longest, roofline_chart, shown_limits
    from flyweight.reports.page import Section, table

    title = f"Roofline in {runtime}"
    told = "".join(f"<p>{html.escape(note)}</p>" for note in found.notes)
    ceilings = found.ceilings
    if ceilings is None:
        return Section(title, told)
    rows = [
        [
            f"{place}  {each.layer}",
            each.kind,
            f"{each.milliseconds:.3f} ms",
            f"{each.intensity:.1f}",
            f"{each.gflops:.1f}",
            f"{each.attainable_gflops:.1f}",
            f"{100 * each.share:.0f} %",
            each.bound,
        ]
        for place, each in enumerate(longest(found.points, LONGEST), start=1)
    ]
    columns = (
        "the longest", "kind", "time", "intensity", "GFLOP/s", "allowed", "reached",
        "bound by",
    )  # fmt: skip
    limits = ", ".join(f"{name} {rate:.0f}" for name, rate in shown_limits(ceilings).items())
    # on a phone one scrolls, and can read
    chart = f'<div style="min-width:620px">{roofline_chart(found.points, ceilings)}</div>'
    return Section(
        title,
        f'<div class="scroll">{chart}</div>{told}{table(columns, rows)}',
        f"This machine's measured limits with {ceilings.threads} threads: {limits} GFLOP/s in "
        f"products of matrices, {ceilings.bandwidth_gbs:.1f} GB/s to and from memory. Left of the "
        "bend a layer waits for memory, right of it for arithmetic; the further below the roof, "
        "the more a better kernel could bring. Larger marks take longer; numbers are those of the "
        "table.",
    )


def render_measured(console: Console, content: dict[str, Any]) -> None:
    """The layers that take longest, and how far below the limits they are."""
    from rich import box
    from rich.table import Table

    run = content["run"]
    table = Table(
        title=f"{content['runtime']}, {content['threads']} threads: {run['milliseconds']:.2f} ms "
        f"± {run['spread']:.2f}, its layers together {content['layers_milliseconds']:.2f}",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("the longest", no_wrap=True)
    for column in ("ms", "±", "GFLOP/s", "of limit", "bound by"):
        table.add_column(column, justify="right", no_wrap=True)
    under = {each["layer"]: each for each in content["roofline"]}
    spent: dict[str, list[float]] = {}
    for each in content["layers"]:
        total = spent.setdefault(each["layer"], [0.0, 0.0])
        total[0] += each["milliseconds"]
        total[1] += each["spread"]
    room = max(20, console.width - 48)
    for layer in sorted(spent, key=lambda name: -spent[name][0])[:LONGEST]:
        point = under.get(layer)
        reached = ["–"] * 3
        if point is not None:
            reached = [f"{point['gflops']:.1f}", f"{100 * point['share']:.0f}%", point["bound"]]
        name = layer or "(input and output)"
        name = name if len(name) <= room else f"…{name[1 - room :]}"
        table.add_row(name, *(f"{figure:.3f}" for figure in spent[layer]), *reached)
    console.print(table)
    for line in content["notes"]:
        console.print(line, style="dim", markup=False)


def calibrate_device(
    path: Path, *, runtime: str, threads: int | None, seconds: float | None
) -> dict[str, Any]:
    """Measure the grid of operators; what was measured, in short."""
    from flyweight.profiling.calibration import calibrate

    note(f"calibrating {runtime} on this device; let it do nothing else")
    with progress_bar("calibrating", unit="probes") as progress:
        model = calibrate(
            path, runtime=runtime, threads=threads, seconds=seconds, progress=progress
        )
    summary = asdict(replace(model, measured=()))
    return {
        **summary,
        "device": model.description,
        "measured": len(model.measured),
        "file": str(path),
    }
