"""`flyweight label`: trained detectors label pictures that nobody has labelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Debug, Device, Json, Threads
from flyweight.cli.output import figure, note, progress_bar, result

if TYPE_CHECKING:
    from rich.console import Console

    from flyweight.core.errors import InputError
    from flyweight.labeling.labeler import Labeler
    from flyweight.labeling.shards import Engine

Images = Annotated[
    Path | None,
    typer.Argument(
        help="Folder of pictures without labels; with --review alone, what --out was.",
        metavar="IMAGES",
    ),
]
Teachers = Annotated[
    list[Path] | None,
    typer.Option(
        "--teacher",
        help="A .safetensors, .onnx or .xml file, or YOLOX or PicoDet as published (.onnx); may "
        "be given several times.",
        metavar="FILE",
    ),
]
Labelled = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Labelled data set: its classes, and what thresholds fit.", metavar="DIR"
    ),
]
Split = Annotated[
    str, typer.Option(help="Of --data: images that the teachers have not learnt from.")
]
Out = Annotated[Path | None, typer.Option(help="Folder of the new data set.", metavar="DIR")]
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
CountOn = Annotated[
    str,
    typer.Option(
        help="Where labels an image are counted: on the split of --data, or on the pictures, which "
        "allows a split that the teachers have learnt from.",
        metavar="data|pictures",
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
EngineName = Annotated[
    str,
    typer.Option("--engine", help="In this process, or on a Ray cluster.", metavar="local|ray"),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="With ray: processes that label, of --threads CPUs each (1 unless given). (default: "
        "as many as fit)",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="With ray: of a running cluster; it sees all files at the same places. (default: one "
        "on this machine)",
        metavar="HOST:PORT|auto",
    ),
]
Review = Annotated[
    bool,
    typer.Option(
        "--review", help="Go through the labels in the browser; without a teacher, only that."
    ),
]
Port = Annotated[
    int, typer.Option(min=0, max=65535, help="Of the review page. (default: a free one)")
]
OpenBrowser = Annotated[bool, typer.Option("--open/--no-open", help="The review page, at once.")]


def label(
    images: Images = None,
    teacher: Teachers = None,
    data: Labelled = None,
    out: Out = None,
    split: Split = "val",
    scale: Scale = None,
    flip: Flip = True,
    renamed: Renamed = None,
    precision: Precision = None,
    count_on: CountOn = "data",
    uncertain: Uncertain = 0.5,
    batch: Batch = 8,
    shard: Shard = 500,
    copy: Copy = False,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    review: Review = False,
    port: Port = 0,
    open_browser: OpenBrowser = True,
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Label pictures with trained detectors: data distillation.

    The teachers look at every picture in several ways; what they agree on becomes a COCO data set,
    to be mixed into a training: flyweight train ... --extra OUT. The same command goes on with a
    run that was stopped. A person then looks at what they were least sure of: flyweight label
    --review OUT.
    """
    with result(as_json=json) as show:
        from flyweight.core.errors import InputError
        from flyweight.data.formats import open_dataset
        from flyweight.labeling.label import label_folder

        if review and not teacher and data is None and (images is None) != (out is None):
            reviewed = _review(images or out, port, open_browser)
            show(reviewed, lambda console: _render_review(console, reviewed))
            return
        if images is None or not teacher or data is None or out is None:
            raise _incomplete(IMAGES=images, teacher=teacher, data=data, out=out)
        if count_on not in ("data", "pictures"):
            raise InputError(f"unknown --count-on '{count_on}'", fix="choose data or pictures")
        names = class_names_of(renamed or [])
        labelled = open_dataset(data, split)
        opened = partial(
            open_labeler,
            [path.absolute() for path in teacher],
            labelled.class_names,
            scales=scale or [1.0],
            flip=flip,
            renamed=names,
        )
        spread = _engine(
            engine, opened, workers=workers, address=address, threads=threads, device=device
        )
        # on a cluster others label; here it is only asked what it is
        labeler = opened(threads=threads, device=device if engine == "local" else "cpu")
        with spread as write, progress_bar("labelling") as bar:
            made = label_folder(
                images,
                out,
                labeler,
                labelled,
                precision=precision,
                count_on_pictures=count_on == "pictures",
                uncertain=uncertain,
                batch=batch,
                shard_images=shard,
                copy=copy,
                engine=write,
                progress=_narrated(bar),
            )
        content = made.to_dict() | {
            "teachers": [each.name for each in labeler.teachers],
            "views": [view.name for view in labeler.views],
        }
        if review:
            content["review"] = _review(out, port, open_browser)
        show(content, lambda console: _render(console, content))


def _incomplete(**given: Any) -> InputError:
    """What is wrong with a labelling that lacks some of `given`, by their names."""
    from flyweight.core.errors import InputError

    missing = [
        name if name.isupper() else f"--{name}" for name, value in given.items() if not value
    ]
    return InputError(
        f"missing: {', '.join(missing)}",
        fix="label with IMAGES, --teacher, --data and --out; or look at what was labelled with "
        "--review OUT alone",
    )


def _review(folder: Path | None, port: int, open_browser: bool) -> dict[str, Any]:
    from flyweight.labeling.review import review_folder

    assert folder is not None
    return review_folder(folder, port=port, open_browser=open_browser, say=note)


def open_labeler(
    paths: Sequence[Path],
    data_classes: Sequence[str],
    *,
    scales: Sequence[float],
    flip: bool,
    renamed: Mapping[str, str],
    threads: int | None = None,
    device: str = "cpu",
) -> Labeler:
    """The teachers in `paths` with their views; in a worker on another machine too."""
    from flyweight.api import load
    from flyweight.labeling.labeler import Labeler
    from flyweight.labeling.teacher import open_teachers
    from flyweight.labeling.views import make_views

    views = make_views(scales, flip=flip)
    teachers = open_teachers(
        paths,
        data_classes,
        load=lambda path: load(path, threads=threads, device=device),
        renamed=renamed,
        threads=threads,
    )
    return Labeler(teachers, views)


def _engine(
    name: str,
    opened: Callable[..., Labeler],
    *,
    workers: int | None,
    address: str | None,
    threads: int | None,
    device: str,
) -> AbstractContextManager[Engine]:
    """The engine of this name, which works within a `with` block."""
    from flyweight.core.errors import InputError
    from flyweight.labeling.shards import write_shards

    if name == "ray":
        from flyweight.labeling.ray_engine import ray_engine

        threads = threads or 1
        # Ray shows a worker its own GPU alone: it has no other number there
        kind = device.partition(":")[0]
        return ray_engine(
            partial(opened, threads=threads, device=kind),
            workers=workers,
            threads=threads,
            gpus=int(kind == "cuda"),
            address=address,
        )
    if name != "local":
        raise InputError(f"unknown --engine '{name}'", fix="choose local or ray")
    if workers is not None or address is not None:
        raise InputError("--workers and --address need a cluster", fix="add --engine ray")
    return nullcontext(write_shards)


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
    if content["reviewed"]:
        console.print(f"reviewed    {content['reviewed']} pictures: their labels stay as they were")
    if "review" in content:
        _render_review(console, content["review"])
    console.print(f"next        flyweight train NAME --data DIR --extra {content['out']} --out RUN")


def _render_review(console: Console, content: dict[str, Any]) -> None:
    console.print(f"done        {content['done']} of {content['images']} pictures")
    boxes = ", ".join(f"{content[name]} {name}" for name in ("accepted", "fixed", "added"))
    console.print(f"boxes       {boxes}")
    if content["left"]:
        console.print(f"go on       flyweight label --review {content['out']}", markup=False)
