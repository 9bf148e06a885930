"""`flyweight pretrain`: pictures of classes, or labelled objects, in; a pretrained backbone out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Debug, Json
from flyweight.cli.output import figure, note, plain, result
from flyweight.cli.train import (
    PRECISIONS,
    LearningRate,
    Out,
    Overwrite,
    Precision,
    Resume,
    Seed,
    TrainDevice,
    Workers,
)

if TYPE_CHECKING:
    from rich.console import Console

Name = Annotated[str, typer.Argument(help="See: flyweight models --backbones.", metavar="BACKBONE")]
Images = Annotated[
    Path,
    typer.Option(
        help="One folder a class, or train/ and val/ of such folders; "
        "or a COCO, VOC or YOLO data set, whose objects are cut out.",
        metavar="DIR",
    ),
]
Width = Annotated[float | None, typer.Option(help="Channel multiplier. (default: 1)")]
Size = Annotated[int | None, typer.Option(help="Side of the input, pixels. (default: 128)")]
Norm = Annotated[
    str | None,
    typer.Option(help="(default: what detectors over it have)", metavar="batch|group|none"),
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the images. (default: 50)")]
Batch = Annotated[int | None, typer.Option(help="Images of one step. (default: 64)")]
Pretrained = Annotated[
    str | None,
    typer.Option(help="What to start from. (default: none)", metavar="imagenet|FILE|none"),
]
Smoothing = Annotated[float | None, typer.Option(help="Of the labels; 0: none. (default: 0.1)")]
Balanced = Annotated[
    bool | None,
    typer.Option(
        "--balanced/--as-found", help="Draw every class equally often. (default: as found)"
    ),
]
Context = Annotated[
    float | None,
    typer.Option(
        help="Of cut-out objects: what is seen beyond each side, as a share of the longer one. "
        "(default: 0.15)"
    ),
]
Background = Annotated[
    bool | None,
    typer.Option(
        "--background/--no-background",
        help="Of detection data: pieces without objects as a class. (default: yes)",
    ),
]


def pretrain(
    backbone: Name,
    data: Images,
    out: Out,
    width: Width = None,
    size: Size = None,
    norm: Norm = None,
    epochs: Epochs = None,
    batch: Batch = None,
    lr: LearningRate = None,
    seed: Seed = None,
    pretrained: Pretrained = None,
    label_smoothing: Smoothing = None,
    balanced: Balanced = None,
    context: Context = None,
    background: Background = None,
    device: TrainDevice = None,
    precision: Precision = None,
    workers: Workers = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a backbone as a classifier, for detectors to start from.

    Chooses the best weights on val; without it, a part of train is set aside.
    The file it leaves is one for: flyweight train ... --pretrained FILE.
    """
    with result(as_json=json) as show:
        from flyweight.core.errors import InputError
        from flyweight.training.classification.run import pretrain as pretrain_on_folder

        if precision is not None and precision not in PRECISIONS:
            raise InputError(f"unknown precision '{precision}'", fix="choose fp32 or bf16")
        given: dict[str, Any] = {
            "epochs": epochs,
            "batch_size": batch,
            "lr": lr,
            "seed": seed,
            "label_smoothing": label_smoothing,
            "balanced": balanced,
            "context": context,
            "background": background,
            "device": device,
            "precision": None if precision is None else PRECISIONS[precision],
            "workers": workers,
        }
        trained = pretrain_on_folder(
            backbone,
            data,
            out,
            width=width,
            size=size,
            norm=norm,
            pretrained=pretrained,
            resume=resume,
            overwrite=overwrite,
            note=lambda text: note(f"note: {text}"),
            resume_command=_resume_command(),
            **{name: value for name, value in given.items() if value is not None},
        )
        content = plain(trained)
        show(content, lambda console: _render(console, content))


def _resume_command() -> str:
    """The user's own command line, which goes on with the run."""
    words = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
    return shlex.join(["flyweight", *words, "--resume"])


def _render(console: Console, content: dict[str, Any]) -> None:
    metrics = content["metrics"]
    console.print(
        f"on val      top-1 {figure(metrics['top1'])}, "
        f"balanced accuracy {figure(metrics['balanced_accuracy'])} "
        f"({len(content['classes'])} classes, {content['images']['val']} images)"
    )
    console.print(f"checkpoint  {content['checkpoint']}")
    console.print(f"speed       {content['images_per_second']:.1f} images/s")
    width = "" if content["width"] == 1 else f"--width {content['width']:g} "
    console.print(
        f"next        flyweight train NAME {width}--pretrained {content['checkpoint']} "
        "--data DIR --out RUN"
    )
