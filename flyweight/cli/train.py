"""`flyweight train`: labelled images in, a run folder with the best checkpoint out."""

from __future__ import annotations

import json as json_text
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Data, Debug, Json
from flyweight.cli.output import figure, note, result

if TYPE_CHECKING:
    from rich.console import Console

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}


Model = Annotated[
    str | None,
    typer.Argument(
        help="Name of a model (see: flyweight models), a preset file (.yaml), or a .safetensors "
        "file to go on from.",
        metavar="NAME|FILE",
        show_default=False,
    ),
]
Kind = Annotated[
    str | None, typer.Option("--model", help="The same as NAME|FILE.", metavar="NAME|FILE")
]
Backbone = Annotated[
    str | None,
    typer.Option(
        help="Backbone in place of the model's own (see: flyweight models --backbones).",
        metavar="NAME",
    ),
]
Neck = Annotated[
    str | None,
    typer.Option(
        help="Neck in place of the model's own.", metavar="ssd_extras|fpn|pan|yolo_fpn|yolo_pan"
    ),
]
Extra = Annotated[
    Path | None,
    typer.Option(
        help="A second data set of the same classes to mix in (from: flyweight label).",
        metavar="DIR",
    ),
]
Ratio = Annotated[
    float | None,
    typer.Option(help="Pictures of --extra for each labelled one. (default: 1)"),
]
Teacher = Annotated[
    str | None,
    typer.Option(
        help="A detector to learn from beside the labels: a checkpoint or an exported file.",
        metavar="FILE",
    ),
]
Distill = Annotated[
    str | None,
    typer.Option(
        help="What of it, one or several with commas. (default: logits)",
        metavar="logits|boxes|features|fgd",
    ),
]
DistillWeight = Annotated[
    str | None,
    typer.Option(
        help="Weight of these losses, one for all or one each with commas. (default: 1)",
        metavar="FLOAT",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Any other field of the model's config or of the recipe; may be given several times.",
        metavar="FIELD=VALUE",
    ),
]
Out = Annotated[Path, typer.Option(help="Folder of the run.", metavar="RUN")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training images. (default: 100)")]
Size = Annotated[int | None, typer.Option(help="Side of the input, pixels. (default: the model's)")]
Width = Annotated[float | None, typer.Option(help="Channel multiplier. (default: the model's)")]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="What a paper trains with: augmentation, optimiser, losses. (default: ssdlite)",
        metavar="ssdlite|ssd|retinanet|faster_rcnn|yolov3|yolov4|tiny_data",
    ),
]
Batch = Annotated[
    str | None,
    typer.Option(
        help="Images of one step; auto: the most that fit. (default: 16)", metavar="INT|auto"
    ),
]
LearningRate = Annotated[float | None, typer.Option(help="The highest. (default: 0.001)")]
Optimizer = Annotated[str | None, typer.Option(help="(default: adamw)", metavar="adamw|sgd")]
Seed = Annotated[int | None, typer.Option(help="Start of every random number. (default: 0)")]
Pretrained = Annotated[
    str | None,
    typer.Option(help="Weights of the backbone. (default: none)", metavar="imagenet|FILE|none"),
]
Freeze = Annotated[
    int | None,
    typer.Option(
        help="Stages of the backbone that stay as they are. "
        " (default: 2 with pretrained weights, else 0)"
    ),
]
Anchors = Annotated[
    str | None,
    typer.Option(
        help="Default boxes: as published, or fitted to the data. (default: published)",
        metavar="published|fit",
    ),
]
Normalise = Annotated[
    str | None,
    typer.Option(
        help="Scale channels by the training images' own mean and deviation. (default: as "
        "published, or as the pretrained weights want it)",
        metavar="data",
    ),
]
Augmentation = Annotated[
    str | None,
    typer.Option(
        help="(default: ssd)",
        metavar="ssd|ssdlite|retinanet|faster_rcnn|yolov3|yolov4|yolox|tiny_data|none",
    ),
]
Patience = Annotated[
    int | None,
    typer.Option(help="Stop after so many epochs without a better AP; 0: never. (default: 0)"),
]
EvalEvery = Annotated[
    int | None, typer.Option(help="Epochs between evaluations. (default: so that they cost little)")
]
TrainDevice = Annotated[
    str | None, typer.Option(help="(default: auto)", metavar="auto|cpu|cuda|cuda:1|mps")
]
Devices = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes to train with, each with a device and a batch of its own, in place of "
        "torchrun. (default: 1)",
    ),
]
Precision = Annotated[str | None, typer.Option(help="(default: fp32)", metavar="fp32|bf16")]
Workers = Annotated[
    int | None, typer.Option(help="Processes that read images. (default: by device)")
]
Log = Annotated[
    list[str] | None,
    typer.Option(
        help="Where figures go besides metrics.jsonl, .csv and TensorBoard; may be given several "
        "times.",
        metavar="mlflow",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")]


def train(
    data: Data,
    out: Out,
    model: Model = None,
    kind: Kind = None,
    backbone: Backbone = None,
    neck: Neck = None,
    extra: Extra = None,
    ratio: Ratio = None,
    teacher: Teacher = None,
    distill: Distill = None,
    distill_weight: DistillWeight = None,
    fields: Set = None,
    recipe: RecipeName = None,
    epochs: Epochs = None,
    size: Size = None,
    width: Width = None,
    batch: Batch = None,
    lr: LearningRate = None,
    optimizer: Optimizer = None,
    seed: Seed = None,
    pretrained: Pretrained = None,
    freeze: Freeze = None,
    anchors: Anchors = None,
    normalise: Normalise = None,
    augmentation: Augmentation = None,
    patience: Patience = None,
    eval_every: EvalEvery = None,
    device: TrainDevice = None,
    devices: Devices = None,
    precision: Precision = None,
    workers: Workers = None,
    log: Log = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a detector on your own labelled images.

    Trains on the split train and chooses the best weights on val.
    Without a val split, a part of train is set aside. Reports on test, where there is one.
    With several processes: torchrun --nproc-per-node 4 -m flyweight train ...
    """
    with result(as_json=json) as show, _one_voice(debug=debug):
        from flyweight.core.errors import InputError
        from flyweight.training.processes import process_rank
        from flyweight.training.recipe import Recipe
        from flyweight.training.run import train_on_folder

        if precision is not None and precision not in PRECISIONS:
            raise InputError(f"unknown precision '{precision}'", fix="choose fp32 or bf16")
        given: dict[str, Any] = {
            "epochs": epochs,
            "batch_size": _batch(batch),
            "lr": lr,
            "optimizer": optimizer,
            "seed": seed,
            "ratio": ratio,
            "teacher": teacher,
            "distill": None if distill is None else _listed(distill),
            "distill_weights": None if distill_weight is None else _numbers(distill_weight),
            "augmentation": augmentation,
            "freeze_backbone_stages": freeze,
            "patience": patience,
            "eval_every": eval_every,
            "device": device,
            "devices": devices,
            "precision": None if precision is None else PRECISIONS[precision],
            "workers": workers,
            "loggers": None if log is None else (*Recipe.loggers, *log),
        }
        if ratio is not None and extra is None:
            raise InputError("--ratio without --extra", fix="name the data set to mix in")
        if (distill or distill_weight) and teacher is None and not resume:
            raise InputError("--distill without --teacher", fix="name the detector to learn from")
        chosen = model or kind
        if chosen is None:
            raise InputError(
                "no model is named", fix="name one, e.g.: flyweight train ssdlite320_mobilenet_v2"
            )
        options: dict[str, Any] = {"backbone": backbone, "neck": neck}
        options = {name: value for name, value in options.items() if value is not None}
        others = config_fields(fields or [])
        of_recipe = {
            name: others.pop(name) for name in list(others) if name in Recipe.__dataclass_fields__
        }
        trained = train_on_folder(
            chosen,
            data,
            out,
            extra=extra,
            options=options | others,
            recipe=recipe,
            size=size,
            width=width,
            pretrained=pretrained,
            anchors=anchors,
            normalise=normalise,
            resume=resume,
            overwrite=overwrite,
            note=lambda text: note(f"note: {text}"),
            resume_command=_resume_command(),
            **of_recipe,
            **{name: value for name, value in given.items() if value is not None},
        )
        content = trained.to_dict()
        if process_rank() == 0:
            show(content, lambda console: _render(console, content))


def _batch(text: str | None) -> int | str | None:
    from flyweight.core.errors import InputError
    from flyweight.training.run import AUTO

    if text is None or text == AUTO:
        return text
    if not text.isdecimal():
        raise InputError(
            f"'{text}' is no number of images", where="--batch", fix="give e.g. 16, or auto"
        )
    return int(text)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str) -> tuple[float, ...]:
    from flyweight.core.errors import InputError

    try:
        return tuple(float(part) for part in _listed(text))
    except ValueError:
        raise InputError(
            f"'{text}' are no numbers", where="--distill-weight", fix="give e.g. 1, or 1,0.5"
        ) from None


@contextmanager
def _one_voice(*, debug: bool) -> Iterator[None]:
    """Of several processes, let one say what all of them know; the others end without a word."""
    from flyweight.core.errors import FlyweightError
    from flyweight.training.interrupt import TrainingInterrupted
    from flyweight.training.processes import is_told_here, process_rank

    try:
        yield
    except TrainingInterrupted:
        # the first process' exit code is the run's
        if process_rank() != 0:
            raise typer.Exit(0) from None
        raise
    except FlyweightError as error:
        if debug or is_told_here(error):
            raise
        raise typer.Exit(error.exit_code) from None


def config_fields(words: list[str]) -> dict[str, Any]:
    """`FIELD=VALUE` words as fields of a config; values are JSON, or text.

    Raises:
        InputError: a word without `=`.
    """
    from flyweight.core.errors import InputError

    given: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise InputError(
                f"'{word}' is not FIELD=VALUE", where="--set", fix="write e.g. --set head=conv3x3"
            )
        try:
            value = json_text.loads(text)
        except ValueError:
            value = text
        given[name.strip().replace("-", "_")] = _frozen(value)
    return given


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


def _resume_command() -> str:
    """The user's own command line, which goes on with the run; torchrun's options are not known."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "the same torchrun command and --resume"
    words = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
    return shlex.join(["flyweight", *words, "--resume"])


def _render(console: Console, content: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title="average precision of the best checkpoint")
    for column in ("images", "AP", "AP50", "AP75"):
        table.add_column(column, justify="left" if column == "images" else "right")
    for name, figures in (("val", content["metrics"]), ("test", content["test_metrics"])):
        if figures is not None:
            table.add_row(name, *(figure(figures[key]) for key in ("AP", "AP50", "AP75")))
    console.print(table)
    console.print(f"checkpoint  {content['checkpoint']}")
    report = Path(content["run"]) / "report.html"
    if report.is_file():
        console.print(f"report      {report}")
    console.print(f"speed       {content['images_per_second']:.1f} images/s")
    console.print(f"next        flyweight export {content['checkpoint']} --to onnx --out exported")
