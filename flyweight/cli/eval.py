"""`flyweight eval`: average precision of a model file on labelled images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Data, Debug, Device, Json, ModelFile, Runtime, Threads
from flyweight.cli.output import figure, progress_bar, result

if TYPE_CHECKING:
    from rich.console import Console


Split = Annotated[str, typer.Option(help="train, val or test.")]
Batch = Annotated[int, typer.Option(min=1, help="Images that go through together.")]


def evaluate(
    file: ModelFile,
    data: Data,
    split: Split = "test",
    batch: Batch = 16,
    runtime: Runtime = None,
    threads: Threads = None,
    device: Device = "cpu",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure average precision (COCO's AP) of a model file on labelled images."""
    with result(as_json=json) as show:
        from flyweight.api import load
        from flyweight.data.formats import open_dataset
        from flyweight.evaluation.evaluate import evaluate as evaluate_predictor

        predictor = load(file, threads=threads, runtime=runtime, device=device)
        dataset = open_dataset(data, split)
        with progress_bar(f"evaluating {file.name}") as progress:
            measured = evaluate_predictor(predictor, dataset, batch_size=batch, progress=progress)
        content = measured.to_dict()
        show(content, lambda console: _render(console, content, str(file)))


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
