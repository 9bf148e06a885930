"""`flyweight models`: what can be trained."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Debug, Json
from flyweight.cli.output import result

if TYPE_CHECKING:
    from rich.console import Console


Backbones = Annotated[
    bool, typer.Option("--backbones", help="List the backbones that a model can be given.")
]


def models(backbones: Backbones = False, json: Json = False, debug: Debug = False) -> None:
    """List the models that train knows by name, or the backbones to compose one from."""
    if backbones:
        _list_backbones(json)
        return
    with result(as_json=json) as show:
        from flyweight.models.detectors.zoo import ZOO, describe

        entries: list[dict[str, Any]] = []
        for name in ZOO:
            entry = describe(name)
            entries.append(
                {
                    "name": entry.name,
                    "description": entry.description,
                    "parameters": entry.params,
                    "input_size": list(entry.size_hw),
                    "anchors": entry.anchors,
                }
            )
        show({"models": entries}, lambda console: _render(console, entries))


def _list_backbones(as_json: bool) -> None:
    with result(as_json=as_json) as show:
        from flyweight.models.backbones.description import describe_backbones

        rows = [dataclasses.asdict(each) for each in describe_backbones()]
        show({"backbones": rows}, lambda console: _render_backbones(console, rows))


def _render_backbones(console: Console, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(caption="as an ImageNet classifier at 224×224; C2 to C5 at strides 4 to 32")
    table.add_column("name", style="bold", no_wrap=True)
    for column in ("parameters", "MACs"):
        table.add_column(column, justify="right")
    table.add_column("channels of C2, C3, C4, C5")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['params'] / 1e6:.2f} M",
            f"{row['macs'] / 1e6:,.0f} M",
            ", ".join(str(count) for count in row["channels"]),
        )
    console.print(table)


def _render(console: Console, entries: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(caption="parameters for the 90 category ids of COCO; any input size works")
    # What a model is stands under its name: beside it, 80 columns would leave it a word a line.
    table.add_column("model")
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("input", justify="right", no_wrap=True)
    for entry in entries:
        height, width = entry["input_size"]
        table.add_row(
            Text.assemble((entry["name"], "bold"), "\n", (entry["description"], "dim")),
            f"{entry['parameters'] / 1e6:.2f} M",
            f"{height}×{width}",
        )
    console.print(table)
