"""`flyweight export`: a checkpoint as a file that a runtime opens, checked or refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Debug, Json
from flyweight.cli.output import figure, note, result

if TYPE_CHECKING:
    from rich.console import Console

    from flyweight.compression.head_doctor import Diagnosis
    from flyweight.models.detectors import Detector

FORMATS = ("onnx", "openvino", "litert", "ncnn", "web")
PRECISIONS = ("fp32", "fp16", "bf16", "int8-weights", "int8")
BATCHES = ("1", "dynamic")

Checkpoint = Annotated[Path, typer.Argument(help="A .safetensors file.", metavar="FILE")]
To = Annotated[
    str,
    typer.Option(
        help="One or several, with commas between.", metavar="onnx,openvino,litert,ncnn,web"
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        help="int8 of weights and arithmetic; fp16, bf16 and int8-weights of the stored weights.",
        metavar="|".join(PRECISIONS),
    ),
]
MaxLoss = Annotated[
    float,
    typer.Option(
        min=0,
        help="AP points that a precision may cost; int8 (and its weights) keep in float what "
        "costs more.",
        metavar="POINTS",
    ),
]
Doctor = Annotated[
    bool,
    typer.Option(
        "--doctor", help="Tell which layers and tensors cost AP in int8, and why (a page, JSON)."
    ),
]
DoctorImages = Annotated[
    int, typer.Option(min=1, help="Images that the doctor measures AP on, at most.")
]
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
    max_loss: MaxLoss = 0.5,
    doctor: Doctor = False,
    doctor_images: DoctorImages = 200,
    nms: Nms = False,
    batch: Batch = "1",
    name: Name = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a checkpoint for a runtime, compare the file with it, and refuse a bad one.

    ONNX, OpenVINO, LiteRT (.tflite), ncnn, or a folder with a page that runs it in the browser.

    With --data, the AP of each file is measured beside the checkpoint's on the test images, and
    what a precision may cost (--max-loss) on those of val. int8 needs --data: its ranges come from
    the training images.
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
        if doctor and (precision != "int8" or data is None):
            raise InputError(
                "the doctor looks at int8 on labelled images", fix="add --precision int8 --data DIR"
            )
        from flyweight.export.export import export as export_detector
        from flyweight.models.detectors import checkpoint

        detector = checkpoint.load(file)
        # Before the files: where int8 is refused, one wants to know why.
        found = None
        if doctor and data is not None:
            found = _examine(detector, data, doctor_images, out, name or file.stem)
        files = export_detector(
            detector,
            formats,
            out,
            precision=precision,
            max_loss=max_loss,
            data=data,
            nms=nms,
            dynamic_batch=batch == "dynamic",
            name=name or file.stem,
            say=note,
        )
        rows = [made.to_dict() for made in files]
        content: dict[str, Any] = {"files": rows}
        if found is not None:
            content["doctor"] = found.to_dict()
        show(content, lambda console: _render(console, rows, found))


def _examine(detector: Detector, data: Path, images: int, out: Path, name: str) -> Diagnosis:
    """The doctor's findings, their page written: they stand even where int8 is refused."""
    from flyweight.export.doctor import examine_detector, write_diagnosis

    found = examine_detector(detector, data, images=images, say=note)
    page = write_diagnosis(found, out, name=name, subtitle=f"{detector.config.name}, {data}")
    note(f"the doctor's findings: {page}")
    return found


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


def _render(console: Console, rows: list[dict[str, Any]], found: Diagnosis | None) -> None:
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
        for line in _remarks(row):
            console.print(line)
    if rows and rows[0]["torch_ap"] is not None:
        console.print(f"the checkpoint's own AP on the same images: {figure(rows[0]['torch_ap'])}")
    if found is not None:
        from flyweight.compression.head_doctor_report import console_tables, guilty_lines

        for each in console_tables(found):
            console.print(each)
        for line in guilty_lines(found):
            console.print(line)


def _remarks(row: dict[str, Any]) -> list[str]:
    """What there is to say of a file beside its figures."""
    lines = []
    if row["kept_float"]:
        lines.append(f"{len(row['kept_float'])} convolutions stay in float")
    if row["loss"] is not None:
        lines.append(f"{row['loss']:.2f} AP points lost on the images that decide")
    if row["ms"] is not None:
        slower = row["ms"] > row["fp32_ms"]
        lines.append(
            f"{'NOT faster than fp32 here: ' if slower else ''}{row['ms']:.1f} ms, "
            f"fp32 {row['fp32_ms']:.1f} ms"
        )
    return [f"{row['path']}: {line}" for line in lines]
