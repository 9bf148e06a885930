"""`flyweight convert`: others' weights into a Flyweight checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Debug, Json
from flyweight.cli.output import result

if TYPE_CHECKING:
    from rich.console import Console

Weights = Annotated[
    Path,
    typer.Argument(
        help="Weights of torchvision (.pth, .safetensors), Darknet (.weights) or Caffe "
        "(.caffemodel).",
        metavar="FILE",
    ),
]
To = Annotated[
    str, typer.Option(help="The same architecture here (see: flyweight models).", metavar="NAME")
]
Out = Annotated[Path, typer.Option(help="The checkpoint to write.", metavar="FILE.safetensors")]
Classes = Annotated[
    str | None,
    typer.Option(
        help="Class names: a text file with one a line, or words with commas between. "
        "(default: those of VOC or COCO)",
        metavar="FILE|NAMES",
    ),
]
Size = Annotated[int | None, typer.Option(help="Side of the input, pixels. (default: the model's)")]
Bgr = Annotated[
    bool, typer.Option("--bgr", help="A Caffe network that was trained with blue first.")
]


def convert(
    file: Weights,
    to: To,
    out: Out,
    classes: Classes = None,
    size: Size = None,
    bgr: Bgr = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Turn weights of torchvision, Darknet or Caffe into a Flyweight checkpoint.

    It can be evaluated, trained on, folded and exported like any other.
    A backbone's ImageNet weights need no conversion: give them to train --pretrained.
    """
    with result(as_json=json) as show:
        from flyweight.core.errors import InputError
        from flyweight.models.detectors import save
        from flyweight.models.detectors.convert import convert_weights

        if out.suffix != ".safetensors":
            raise InputError(
                "checkpoints are .safetensors files", where=out, fix="name it so with --out"
            )
        detector = convert_weights(file, to, classes=_names(classes), size=size, bgr=bgr)
        out.parent.mkdir(parents=True, exist_ok=True)
        save(detector, out)
        content: dict[str, Any] = {
            "checkpoint": str(out),
            "model": to,
            "source": str(file),
            "input_size": list(detector.preprocessing.size_hw),
            "classes": list(detector.class_names),
            "parameters": sum(each.numel() for each in detector.parameters()),
        }
        show(content, lambda console: _render(console, content))


def _names(classes: str | None) -> list[str] | None:
    if classes is None:
        return None
    path = Path(classes)
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip()]
    return [name.strip() for name in classes.split(",")]


def _render(console: Console, content: dict[str, Any]) -> None:
    height, width = content["input_size"]
    console.print(f"checkpoint  {content['checkpoint']}")
    console.print(f"model       {content['model']}, {content['parameters'] / 1e6:.2f} M parameters")
    console.print(f"input       {height}×{width}")
    names = content["classes"]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    console.print(f"classes     {shown}")
    console.print(f"next        flyweight predict {content['checkpoint']} PICTURE")
