"""`flyweight eval`: how good model files are on labelled images, and which is the best of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Data, Debug, Device, Json, Runtime, Threads
from flyweight.cli.output import figure, note, progress_bar, result
from flyweight.core.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from flyweight.core.detections import Detections
    from flyweight.data.records import DetectionDataset
    from flyweight.evaluation.coco_ap import EvaluationResult

ModelFiles = Annotated[
    list[Path],
    typer.Argument(
        help="A checkpoint or an exported file; several are compared with the first.",
        metavar="FILE",
    ),
]
Split = Annotated[str, typer.Option(help="train, val or test.")]
Batch = Annotated[int, typer.Option(min=1, help="Images that go through together.")]
Resamples = Annotated[
    int,
    typer.Option(min=100, help="Of a comparison: draws of the images behind its 95 % interval."),
]
ReportPage = Annotated[
    Path | None,
    typer.Option(
        "--report", help="Of one file: write a page that shows what it gets wrong.", metavar="HTML"
    ),
]


def evaluate(
    files: ModelFiles,
    data: Data,
    split: Split = "test",
    batch: Batch = 16,
    resamples: Resamples = 1000,
    report: ReportPage = None,
    runtime: Runtime = None,
    threads: Threads = None,
    device: Device = "cpu",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure average precision (COCO's AP) of a model file, or of several side by side."""
    if report is not None and len(files) > 1:
        raise InputError("--report is of one file", fix="give one file, or leave --report out")
    if report is not None and report.is_dir():
        raise InputError("this is a folder", where=report, fix="give --report a file name")
    with result(as_json=json) as show:
        from flyweight.api import load
        from flyweight.data.formats import open_dataset
        from flyweight.evaluation.evaluate import detect

        # all of them first: a wrong name is found before an hour of work, not after
        predictors = [load(file, threads=threads, runtime=runtime, device=device) for file in files]
        dataset = open_dataset(data, split)
        found = []
        for file, predictor in zip(files, predictors, strict=True):
            with progress_bar(f"evaluating {file.name}") as progress:
                found.append(detect(predictor, dataset, batch_size=batch, progress=progress))
        if len(files) > 1:
            content = _compared(files, dataset, found, resamples=resamples)
            show(content, lambda console: _render_comparison(console, content))
            return
        from flyweight.evaluation.coco_ap import average_precision

        measured = average_precision(dataset, found[0])
        content = measured.to_dict()
        if report is not None:
            content |= _reported(report, files[0], dataset, found[0], measured)
        show(content, lambda console: _render(console, content, str(files[0])))


def _compared(
    files: list[Path],
    dataset: DetectionDataset,
    found: list[list[Detections]],
    *,
    resamples: int,
) -> dict[str, Any]:
    """The figures of every file, and what each has more than the first.

    Of two files the difference also stands at the top, where a script looks for it.
    """
    from flyweight.evaluation.paired import CONFIDENCE, compare_detections

    note(f"comparing on {resamples} resamples of {len(dataset)} images")
    comparison = compare_detections(dataset, found, resamples=resamples)
    names = [str(file) for file in files]
    models: list[dict[str, Any]] = [
        {"file": name} | each.to_dict()
        for name, each in zip(names, comparison.results, strict=True)
    ]
    for place, difference in enumerate(comparison.differences, start=1):
        models[place] |= {
            "difference": difference.to_dict(),
            "more_than_chance": difference.more_than_chance,
            "verdict": comparison.verdict(names, place),
        }
    content: dict[str, Any] = {"models": models, "images": len(dataset)}
    if len(models) == 2:
        content |= {key: models[1][key] for key in ("difference", "more_than_chance", "verdict")}
    return content | {"resamples": resamples, "confidence": CONFIDENCE}


def _reported(
    page: Path,
    file: Path,
    dataset: DetectionDataset,
    found: list[Detections],
    measured: EvaluationResult,
) -> dict[str, Any]:
    """Write the page; returns what each kind of error costs."""
    from flyweight.evaluation.detection_errors import find_errors
    from flyweight.training.evaluation_report import write_evaluation_report

    errors = find_errors(dataset, found)
    write_evaluation_report(
        page, title=str(file), dataset=dataset, found=found, result=measured, errors=errors
    )
    costs = {
        kind: {"AP50_gain": gain, "count": errors.count(kind)}
        for kind, gain in errors.gains.items()
    }
    return {"report": str(page), "errors": costs}


def _render(console: Console, content: dict[str, Any], title: str) -> None:
    from rich.table import Table

    table = Table(title=f"{title}: {content['images']} images")
    table.add_column("class")
    table.add_column("AP", justify="right")
    table.add_column("AP50", justify="right")
    for name, figures in content["per_class"].items():
        table.add_row(name, figure(figures["AP"]), figure(figures["AP50"]))
    table.add_section()
    table.add_row("all", figure(content["AP"]), figure(content["AP50"]), style="bold")
    console.print(table)
    rest = ("AP75", "APs", "APm", "APl", "AR100")
    console.print("   ".join(f"{name} {figure(content[name])}" for name in rest))
    if "report" in content:
        console.print(f"what it gets wrong is shown in {content['report']}", markup=False)


def _render_comparison(console: Console, content: dict[str, Any]) -> None:
    from rich.table import Table

    names = ("AP", "AP50", "AP75")
    table = Table(title=f"{content['images']} images, {content['resamples']} resamples of them")
    for name in ("model", *names):
        table.add_column(name, justify="left" if name == "model" else "right")
    for number, model in enumerate(content["models"], start=1):
        console.print(f"#{number}  {model['file']}", markup=False, soft_wrap=True)
        table.add_row(f"#{number}", *(figure(model[name]) for name in names))
        if "difference" in model:
            gains = [model["difference"][name] for name in names]
            ends = [f"{gain['low']:+.3f} to {gain['high']:+.3f}" for gain in gains]
            table.add_row(f"#{number} − #1", *(f"{gain['value']:+.3f}" for gain in gains))
            table.add_row("95 % interval", *ends, style="dim", end_section=True)
    console.print(table)
    for model in content["models"][1:]:
        console.print(model["verdict"], markup=False)
    console.print(
        "The interval answers for the choice of the images, not for the luck of a training run.",
        style="dim",
    )
