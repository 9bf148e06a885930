"""`flyweight export`: a checkpoint as a file that a runtime opens, checked or refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Debug, Json
from flyweight.cli.output import figure, note, result

if TYPE_CHECKING:
    from rich.console import Console

FORMATS = ("onnx", "openvino")
PRECISIONS = ("fp32", "int8")
BATCHES = ("1", "dynamic")

Checkpoint = Annotated[Path, typer.Argument(help="A .safetensors file.", metavar="FILE")]
To = Annotated[
    str, typer.Option(help="One or several, with commas between.", metavar="onnx,openvino")
]
Precision = Annotated[str, typer.Option(help="Of weights and sums.", metavar="fp32|int8")]
Out = Annotated[Path, typer.Option(help="Folder for the files.", metavar="DIR")]
ExportData = Annotated[
    Path | None,
    typer.Option(help="Data set that int8 is calibrated on and AP is measured on.", metavar="DIR"),
]
Nms = Annotated[bool, typer.Option("--nms", help="Put non-maximum suppression into the graph.")]
Batch = Annotated[str, typer.Option(help="Images of one run of the file.", metavar="1|dynamic")]
Name = Annotated[
    str | None, typer.Option(help="Of the files, without suffix. (default: the checkpoint's)")
]


def export(
    file: Checkpoint,
    to: To = "onnx",
    precision: Precision = "fp32",
    out: Out = Path("exported"),
    data: ExportData = None,
    nms: Nms = False,
    batch: Batch = "1",
    name: Name = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a checkpoint as ONNX or OpenVINO, compare the file with it, and refuse a bad one.

    With --data, the AP of each file is measured beside the checkpoint's. int8 needs --data: its
    ranges come from the training images.
    """
    formats = _chosen(to)
    with result(as_json=json) as show:
        from flyweight.core.errors import InputError

        for value, choices, option in (
            (precision, PRECISIONS, "precision"),
            (batch, BATCHES, "batch"),
        ):
            if value not in choices:
                raise InputError(
                    f"unknown {option} '{value}'", fix=f"choose {' or '.join(choices)}"
                )
        from flyweight.export.export import export as export_detector
        from flyweight.models.detectors import checkpoint

        detector = checkpoint.load(file)
        files = export_detector(
            detector,
            formats,
            out,
            precision=precision,
            data=data,
            nms=nms,
            dynamic_batch=batch == "dynamic",
            name=name or file.stem,
            say=note,
        )
        rows = [made.to_dict() for made in files]
        show({"files": rows}, lambda console: _render(console, rows))


def _chosen(to: str) -> list[str]:
    """The formats of a list with commas, each once."""
    from flyweight.core.errors import InputError

    words = [word.strip() for word in to.split(",") if word.strip()]
    for word in words:
        if word not in FORMATS:
            raise InputError(f"unknown format '{word}'", fix=f"choose {' or '.join(FORMATS)}")
    if not words:
        raise InputError("no format to export to", fix=f"choose {' or '.join(FORMATS)}")
    return list(dict.fromkeys(words))


def _render(console: Console, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(title="exported and compared with the checkpoint")
    table.add_column("file", style="bold", overflow="fold")
    for column in ("precision", "box error, px", "score error", "AP"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row["path"],
            row["precision"],
            figure(row["max_box_error"], digits=4),
            figure(row["max_score_error"], digits=6),
            figure(row["AP"]),
        )
    console.print(table)
    for row in rows:
        if row["kept_float"]:
            console.print(f"{row['path']}: {len(row['kept_float'])} convolutions stay in float")
    if rows and rows[0]["torch_ap"] is not None:
        console.print(f"the checkpoint's own AP on the same images: {figure(rows[0]['torch_ap'])}")
