"""Options that several verbs share, so that they read alike everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, progress on stderr.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

ModelFile = Annotated[
    Path,
    typer.Argument(help=".safetensors, .onnx, .xml, .tflite or .param.", metavar="FILE"),
]
Data = Annotated[Path, typer.Option(help="Folder of a COCO, VOC or YOLO data set.", metavar="DIR")]
Runtime = Annotated[
    str | None, typer.Option(help="onnxruntime or openvino, for an .onnx file; others have one.")
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads of the network. (default: all cores)")
]
Device = Annotated[str, typer.Option(help="Of a checkpoint: cpu, cuda, cuda:1 or mps.")]
DeviceModelFile = Annotated[
    Path | None,
    typer.Option(
        "--device-model",
        help="Predict milliseconds by this (from: flyweight profile --calibrate).",
        metavar="FILE",
    ),
]
