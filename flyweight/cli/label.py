"""`flyweight label`: trained detectors label pictures that nobody has labelled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Debug, Device, Json, Threads
from flyweight.cli.output import figure, note, progress_bar, result

if TYPE_CHECKING:
    from rich.console import Console

Images = Annotated[
    Path, typer.Argument(help="Folder of pictures without labels.", metavar="IMAGES")
]
Teachers = Annotated[
    list[Path],
    typer.Option(
        "--teacher",
        help="A .safetensors, .onnx or .xml file, or YOLOX or PicoDet as published (.onnx); may "
        "be given several times.",
        metavar="FILE",
    ),
]
Labelled = Annotated[
    Path,
    typer.Option(
        "--data", help="Labelled data set: its classes, and what thresholds fit.", metavar="DIR"
    ),
]
Split = Annotated[
    str, typer.Option(help="Of --data: images that the teachers have not learnt from.")
]
Out = Annotated[Path, typer.Option(help="Folder of the new data set.", metavar="DIR")]
Scale = Annotated[
    list[float] | None,
    typer.Option(
        help="How large the teachers see the pictures, 1 as always; may be given several times. "
        "(default: 1)"
    ),
]
Flip = Annotated[bool, typer.Option("--flip/--no-flip", help="Also mirrored.")]
Renamed = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="A class of a teacher that has another name in the data; may be given several times.",
        metavar="TEACHERS=DATAS",
    ),
]
Precision = Annotated[
    float | None,
    typer.Option(
        help="Share of labels that must be right on --data. (default: as many labels an image as "
        "--data has)"
    ),
]
Uncertain = Annotated[
    float,
    typer.Option(help="Boxes from this share of a threshold on are ignored in training."),
]
Batch = Annotated[int, typer.Option(min=1, help="Pictures that go through together.")]
Shard = Annotated[
    int, typer.Option(min=1, help="Pictures of a shard: what is lost at most when stopped.")
]
Copy = Annotated[bool, typer.Option("--copy", help="Copy the pictures, in place of hard links.")]


def label(
    images: Images,
    teacher: Teachers,
    data: Labelled,
    out: Out,
    split: Split = "val",
    scale: Scale = None,
    flip: Flip = True,
    renamed: Renamed = None,
    precision: Precision = None,
    uncertain: Uncertain = 0.5,
    batch: Batch = 8,
    shard: Shard = 500,
    copy: Copy = False,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Label pictures with trained detectors: data distillation.

    The teachers look at every picture in several ways; what they agree on becomes a COCO data set,
    to be mixed into a training: flyweight train ... --extra OUT. The same command goes on with a
    run that was stopped.
    """
    with result(as_json=json) as show:
        from flyweight.api import load
        from flyweight.data.formats import open_dataset
        from flyweight.labeling.label import label_folder
        from flyweight.labeling.labeler import Labeler
        from flyweight.labeling.teacher import open_teachers
        from flyweight.labeling.views import make_views

        views = make_views(scale or [1.0], flip=flip)
        names = class_names_of(renamed or [])
        labelled = open_dataset(data, split)
        teachers = open_teachers(
            teacher,
            labelled.class_names,
            load=lambda path: load(path, threads=threads, device=device),
            renamed=names,
            threads=threads,
        )
        with progress_bar("labelling") as bar:
            made = label_folder(
                images,
                out,
                Labeler(teachers, views),
                labelled,
                precision=precision,
                uncertain=uncertain,
                batch=batch,
                shard_images=shard,
                copy=copy,
                progress=_narrated(bar),
            )
        content = made.to_dict() | {
            "teachers": [each.name for each in teachers],
            "views": [view.name for view in views],
        }
        show(content, lambda console: _render(console, content))


def class_names_of(words: list[str]) -> dict[str, str]:
    """`TEACHERS=DATAS` words as teacher's class → class of the data.

    Raises:
        InputError: a word is not of this form, or a class is given twice.
    """
    from flyweight.core.errors import InputError

    names: dict[str, str] = {}
    for word in words:
        theirs, equals, ours = (part.strip() for part in word.partition("="))
        if not theirs or not equals or not ours:
            raise InputError(
                f"'{word}' is not TEACHERS=DATAS", where="--map", fix="write e.g. person=player"
            )
        if names.setdefault(theirs, ours) != ours:
            raise InputError(f"'{theirs}' is given twice", where="--map", fix="give it once")
    return names


def _narrated(bar: Callable[[int, int], None]) -> Callable[[str, int, int], None]:
    """A progress function that says on stderr when another part of the work begins."""
    parts: list[str] = []

    def progress(what: str, done: int, total: int) -> None:
        if what not in parts:
            parts.append(what)
            note(f"{what} {total} pictures")
        bar(done, total)

    return progress


def _render(console: Console, content: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title="labels, and what the thresholds give on the labelled images")
    table.add_column("class")
    for column in ("labels", "ignored", "threshold", "precision", "recall", "objects"):
        table.add_column(column, justify="right")
    for each in content["classes"]:
        table.add_row(
            each["name"],
            str(each["labels"]),
            str(each["ignored"]),
            figure(each["upper"]) + ("*" if each["pooled"] else ""),
            figure(each["precision"]),
            figure(each["recall"]),
            str(each["objects"]),
        )
    console.print(table)
    if any(each["pooled"] for each in content["classes"]):
        console.print("* too few objects for one of its own: the threshold of all classes together")
    console.print(f"images      {content['images']}, {content['empty']} of them without a label")
    for missing in content["missing"][:5]:
        console.print(f"missing     {missing['name']}: {missing['reason']}", markup=False)
    if len(content["missing"]) > 5:
        console.print(f"            and {len(content['missing']) - 5} more")
    if content["new_images"]:
        console.print(f"new         {content['new_images']} pictures came later: not labelled")
    console.print(f"next        flyweight train NAME --data DIR --extra {content['out']} --out RUN")
