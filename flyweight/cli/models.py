"""`flyweight models`: what can be trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flyweight.cli.options import Debug, Json
from flyweight.cli.output import result

if TYPE_CHECKING:
    from rich.console import Console


def models(json: Json = False, debug: Debug = False) -> None:
    """List the models that `train` knows by name."""
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


def _render(console: Console, entries: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(caption="parameters for the 90 category ids of COCO; any input size works")
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("parameters", justify="right")
    table.add_column("input", justify="right")
    table.add_column("description")
    for entry in entries:
        height, width = entry["input_size"]
        table.add_row(
            entry["name"],
            f"{entry['parameters'] / 1e6:.2f} M",
            f"{height}×{width}",
            entry["description"],
        )
    console.print(table)
