"""`flyweight design`: a budget in, presets of detectors that fit into it out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Data, Debug, DeviceModelFile, Json
from flyweight.cli.output import note, progress_bar, result

if TYPE_CHECKING:
    from rich.console import Console

    from flyweight.profiling.design.design import Design
    from flyweight.profiling.latency_model import LatencyModel

PAGE = "design.html"

BudgetText = Annotated[
    str,
    typer.Option(
        "--budget",
        help='What one image may cost: "8 ms", "500 MMACs", "2 MB", "1.5 M params".',
        metavar="AMOUNT",
    ),
]
Head = Annotated[
    str, typer.Option(help="Kind of detector.", metavar="ssdlite|ssd|retinanet|yolov3|yolov4")
]
TargetRuntime = Annotated[
    str | None,
    typer.Option(
        help="Refuse a device model of another runtime.", metavar="onnxruntime|openvino|torch"
    ),
]
Out = Annotated[Path, typer.Option(help="Folder for the presets and the page.", metavar="DIR")]
Trials = Annotated[int, typer.Option(min=1, help="Candidates to trace, about half a second each.")]
Count = Annotated[int, typer.Option(min=1, help="Detectors to recommend.")]
Seed = Annotated[int, typer.Option(help="The same one gives the same detectors.")]


def design(
    data: Data,
    budget: BudgetText,
    head: Head = "ssdlite",
    device_model: DeviceModelFile = None,
    runtime: TargetRuntime = None,
    out: Out = Path("design"),
    trials: Trials = 300,
    count: Count = 5,
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Find detectors that fit into a budget, and write a preset for each.

    Nothing is built or trained: candidates are traced, a device model predicts their time.
    """
    with result(as_json=json) as show:
        from flyweight.data.formats import open_dataset
        from flyweight.profiling.design.budget import parse_budget
        from flyweight.profiling.design.design import design as find
        from flyweight.profiling.design.design import save_presets
        from flyweight.profiling.design.design_report import design_report
        from flyweight.profiling.design.space import space_of
        from flyweight.reports.page import write_report

        limit = parse_budget(budget)
        space = space_of(head)
        latency = None if device_model is None else _device_model(device_model, runtime)
        dataset = open_dataset(data, "train")
        note(f"note: {min(trials, len(space)):,} of {len(space):,} detectors are looked at")
        with progress_bar("designing", unit="candidates") as progress:
            found = find(
                dataset,
                limit,
                head=head,
                latency=latency,
                trials=trials,
                count=count,
                seed=seed,
                progress=progress,
            )
        presets = save_presets(found, out)
        page = out / PAGE
        write_report(design_report(found, presets, data=data.name), page)
        content = _content(found, presets, page)
        show(content, lambda console: _render(console, content))


def _device_model(path: Path, runtime: str | None) -> LatencyModel:
    from flyweight.core.errors import InputError
    from flyweight.profiling.device_model import DeviceModel

    model = DeviceModel.load(path)
    if runtime is not None and model.runtime != runtime:
        raise InputError(
            f"this device model predicts {model.runtime}, not {runtime}",
            where=path,
            fix=f"calibrate {runtime}: flyweight profile --calibrate --runtime {runtime}",
        )
    note(f"device: {model.description}")
    return model


def _content(found: Design, presets: list[Path], page: Path) -> dict[str, Any]:
    return {
        "head": found.head,
        "budget": {"metric": found.budget.metric, "limit": found.budget.limit},
        "tried": len(found.tried),
        "within_budget": sum(each.spent <= found.budget.limit for each in found.tried),
        "recommended": [
            {
                "preset": str(path),
                **each.candidate.__dict__,
                "spent": each.spent,
                "shown": found.budget.shown(each.spent),
                "milliseconds": each.price.milliseconds,
                "macs": each.price.macs,
                "params": each.price.params,
                "capacity": each.capacity.value,
            }
            for each, path in zip(found.recommended, presets, strict=True)
        ],
        "front": [
            {**each.candidate.__dict__, "spent": each.spent, "capacity": each.capacity.value}
            for each in found.front
        ],
        "report": str(page),
    }


def _render(console: Console, content: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title="detectors that fit",
        caption="capacity is a proxy, no accuracy: train two or three of different backbones",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    # a name that is cut off cannot be given to `train`
    table.add_column("preset", style="bold", no_wrap=True)
    timed = any(row["milliseconds"] is not None for row in content["recommended"])
    columns = ("input", "width", "ms" if timed else "levels", "MMACs", "M params", "capacity")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in content["recommended"]:
        table.add_row(
            Path(row["preset"]).name,
            str(row["size"]),
            f"{row['width']:g}",
            f"{row['milliseconds']:.1f}" if timed else str(row["levels"]),
            f"{row['macs'] / 1e6:,.0f}",
            f"{row['params'] / 1e6:.2f}",
            f"{row['capacity']:.3f}",
        )
    console.print(table)
    console.print(f"report      {content['report']}")
    console.print(f"next        flyweight train {content['recommended'][0]['preset']} --data DATA")
