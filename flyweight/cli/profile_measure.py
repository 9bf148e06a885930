"""What `flyweight profile` measures on this device: layers, its limits, and its calibration."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyweight.cli.output import note, progress_bar
from flyweight.core.errors import InputError

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


def measure_roofline(detector: Detector, times: LayerTimes) -> tuple[Ceilings, list[RooflinePoint]]:
    """This machine's limits, and where each layer stands under them."""
    from flyweight.profiling.ceilings import measure_ceilings
    from flyweight.profiling.roofline import roofline
    from flyweight.profiling.trace import trace_detector

    # As it ran: an exported file has its norms folded.
    cost = trace_detector(detector, folded=times.runtime != "torch")
    ceilings = measure_ceilings(threads=times.threads)
    points = roofline(cost, times.by_layer(), ceilings, runtime=times.runtime)
    return ceilings, points


def measured_content(
    times: LayerTimes, ceilings: Ceilings, points: list[RooflinePoint]
) -> dict[str, Any]:
    """For JSON."""
    return {
        "runtime": times.runtime,
        "threads": times.threads,
        "run": asdict(times.run),
        "profiled_run": asdict(times.profiled_run),
        "layers": [asdict(each) for each in times.layers],
        "ceilings": asdict(ceilings),
        "roofline": [
            {**asdict(each), "intensity": each.intensity, "share": each.share} for each in points
        ],
    }


def roofline_section(ceilings: Ceilings, points: list[RooflinePoint], runtime: str) -> Section:
    """For the page."""
    from flyweight.profiling.roofline import roofline_chart
    from flyweight.reports.page import Section, table

    longest = sorted(points, key=lambda each: -each.milliseconds)[:LONGEST]
    rows = [
        [
            each.layer,
            f"{each.milliseconds:.3f}",
            f"{each.intensity:.1f}",
            f"{each.gflops:.1f}",
            f"{each.attainable_gflops:.1f}",
            f"{100 * each.share:.0f} %",
            each.bound,
        ]
        for each in longest
    ]
    columns = ("the longest", "ms", "intensity", "GFLOP/s", "allowed", "reached", "bound by")
    limits = ", ".join(f"{name} {reached:.0f}" for name, reached in ceilings.gflops.items())
    return Section(
        f"Roofline in {runtime}",
        roofline_chart(points, ceilings) + table(columns, rows),
        f"This machine's measured limits with {ceilings.threads} threads: {limits} GFLOP/s in "
        f"products of matrices, {ceilings.bandwidth_gbs:.1f} GB/s to and from memory. Left of the "
        "bend a layer waits for memory, right of it for arithmetic; above the roof a cache helped.",
    )


def render_measured(console: Console, content: dict[str, Any]) -> None:
    """The layers that take longest."""
    from rich import box
    from rich.table import Table

    run = content["run"]
    table = Table(
        title=f"{content['runtime']}, {content['threads']} threads: {run['milliseconds']:.2f} ms "
        f"± {run['spread']:.2f}" + (", disturbed by others" if run["disturbed"] else ""),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("the longest", overflow="ellipsis", no_wrap=True)
    for column in ("ms", "reached", "allowed", "bound by"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in sorted(content["roofline"], key=lambda point: -point["milliseconds"])[:LONGEST]:
        table.add_row(
            each["layer"],
            f"{each['milliseconds']:.3f}",
            f"{each['gflops']:.1f}",
            f"{each['attainable_gflops']:.1f} GFLOP/s",
            each["bound"],
        )
    console.print(table)


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
    return {**summary, "measured": len(model.measured), "file": str(path)}
