"""Look at, convert or draw a data set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Debug, Json
from flyweight.cli.output import progress_bar, result

if TYPE_CHECKING:
    from rich.console import Console

    from flyweight.data.anchor_recall import AnchorRecall

SSDLITE_SIZE, SSDLITE_STRIDE, SSDLITE_LEVELS = 320, 16, 6
# enough objects for a stable figure
RECALL_OBJECTS = 20_000
# below this share of a class, other boxes are worth a try
ENOUGH_RECALL = 0.9

Folder = Annotated[
    Path, typer.Argument(help="Folder of a COCO, VOC or YOLO data set.", metavar="DIR")
]
Split = Annotated[str | None, typer.Option(help="train, val or test. (default: all)")]
Images = Annotated[
    bool, typer.Option("--images/--no-images", help="Read every image, or only look for it.")
]
Model = Annotated[
    str | None,
    typer.Option(
        help="Whose default boxes the objects are held against: a model's name or a .safetensors "
        "file.",
        metavar="NAME|FILE",
    ),
]
Size = Annotated[int | None, typer.Option(min=32, help="Side of that input. (default: 320)")]
To = Annotated[str, typer.Option(help="Format to write.", metavar="coco|voc|yolo")]
Out = Annotated[Path, typer.Option(help="A new folder.", metavar="DIR")]
Link = Annotated[bool, typer.Option("--link", help="Hard-link the images where possible.")]
Train = Annotated[int, typer.Option(min=0, help="Scenes to train on.")]
Val = Annotated[int, typer.Option(min=0, help="Scenes to choose on.")]
Test = Annotated[int, typer.Option(min=0, help="Scenes to report on.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed draws the same scenes.")]


def check(
    folder: Folder,
    model: Model = None,
    size: Size = None,
    images: Images = True,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Find what is wrong with a data set; exit code 1 when there are errors.

    Also tells how many objects no default box of a model reaches (of SSDlite as published, or of
    --model), and where those are many, what boxes made for this data would reach.
    """
    with result(as_json=json) as show:
        from flyweight.data.default_boxes import tile_default_boxes
        from flyweight.data.doctor import examine

        boxes = _default_boxes(model, size)
        anchors = tile_default_boxes(boxes.grids, boxes.sizes_wh)
        diagnosis = examine(folder, anchors_xyxy=anchors, read_images=images)
        found = diagnosis.to_dict()
        content = {"data": str(folder), "model": boxes.model, **found, "fitted_recall": None}
        recall = diagnosis.recall
        if recall is not None and _is_weak(recall):
            content["fitted_recall"] = _fitted(folder, boxes).to_dict()
        show(content, lambda console: _render_check(console, content, diagnosis.to_text()))
    if not diagnosis.ok:
        raise typer.Exit(1)


def _is_weak(recall: AnchorRecall) -> bool:
    rows = [row for row in (recall.total, *recall.by_class) if row.objects]
    return any(row.recall < ENOUGH_RECALL for row in rows)


@dataclass(frozen=True)
class ModelBoxes:
    """The default boxes that objects are held against; sizes (w, h) relative to the input."""

    model: str
    size_hw: tuple[int, int]
    grids: tuple[tuple[int, int], ...]
    sizes_wh: Any


def _default_boxes(model: str | None, size: int | None) -> ModelBoxes:
    """The boxes of a model, or SSDlite's published ones, for which no torch is needed."""
    from flyweight.data.default_boxes import published_default_boxes

    if model is None:
        side = size or SSDLITE_SIZE
        cells = [math.ceil(side / SSDLITE_STRIDE)]
        while len(cells) < SSDLITE_LEVELS:
            cells.append(math.ceil(cells[-1] / 2))
        grids = tuple((count, count) for count in cells)
        name = f"SSDlite at {side}, published boxes"
        return ModelBoxes(name, (side, side), grids, published_default_boxes())
    from flyweight.training.model_choice import ModelChoice, anchors_of

    boxes = anchors_of(ModelChoice(model, size=size))
    return ModelBoxes(model, boxes.size_hw, boxes.grids, boxes.sizes_wh)


def _fitted(folder: Path, boxes: ModelBoxes) -> AnchorRecall:
    """The recall that default boxes fitted to the data would have, on the same objects."""
    import numpy as np

    from flyweight.data.anchor_recall import anchor_recall
    from flyweight.data.default_boxes import (
        fit_default_boxes,
        relative_boxes,
        tile_default_boxes,
    )
    from flyweight.data.formats import open_dataset

    dataset = open_dataset(folder, on_problem=lambda problem: None)
    fitted = fit_default_boxes(
        dataset,
        boxes.grids,
        [len(level) for level in boxes.sizes_wh],
        boxes.size_hw,
        boxes.sizes_wh,
    )
    boxes_xyxy, labels = relative_boxes(dataset)
    if len(boxes_xyxy) > RECALL_OBJECTS:
        chosen = np.random.default_rng(0).choice(len(boxes_xyxy), RECALL_OBJECTS, replace=False)
        boxes_xyxy, labels = boxes_xyxy[chosen], labels[chosen]
    return anchor_recall(
        boxes_xyxy,
        tile_default_boxes(boxes.grids, fitted),
        labels=labels,
        class_names=dataset.class_names,
    )


def stats(
    folder: Folder,
    split: Split = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Count images, objects, sizes and classes; measure the mean and deviation of the pixels."""
    with result(as_json=json) as show:
        from flyweight.data.formats import available_splits, open_dataset
        from flyweight.data.statistics import channel_statistics, dataset_statistics

        splits = available_splits(folder) if split is None else [split]
        datasets = {name: open_dataset(folder, name) for name in splits}
        first = next(iter(datasets.values()))
        measured = datasets.get("train", first)
        with progress_bar("reading") as progress:
            mean, deviation = channel_statistics(
                measured, progress=lambda done: progress(done, len(measured))
            )
        content = {
            "data": str(folder),
            "format": first.format,
            "classes": list(first.class_names),
            "mean": list(mean),
            "std": list(deviation),
            "measured_on": measured.split,
            "splits": {name: dataset_statistics(each) for name, each in datasets.items()},
        }
        show(content, lambda console: _render_stats(console, content))


def convert(
    folder: Folder,
    to: To,
    out: Out,
    link: Link = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a data set in another format."""
    with result(as_json=json) as show:
        from flyweight.data.formats import convert_dataset, detect_format

        written = convert_dataset(folder, out, data_format=to, link=link)
        content = {
            "from": detect_format(folder),
            "to": to,
            "out": str(out),
            "splits": {name: len(dataset) for name, dataset in written.items()},
            "classes": list(next(iter(written.values())).class_names),
        }
        show(content, lambda console: _render_written(console, content))


def sample(
    out: Out,
    train: Train = 600,
    val: Val = 100,
    test: Test = 100,
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw scenes with cards on cluttered tables, labelled, to try things out on."""
    with result(as_json=json) as show:
        from flyweight.data.scenes import save_scenes

        splits = {"train": train, "val": val, "test": test}
        with progress_bar("drawing", unit="scenes") as progress:
            total = sum(splits.values())
            save_scenes(
                out,
                train=train,
                val=val,
                test=test,
                seed=seed,
                progress=lambda done: progress(done, total),
            )
        content = {"out": str(out), "to": "coco", "splits": splits, "classes": ["card"]}
        show(content, lambda console: _render_written(console, content))


def _render_check(console: Console, content: dict[str, Any], text: str) -> None:
    counts = {name: table["images"] for name, table in content["tables"].items()}
    splits = ", ".join(f"{name} {images}" for name, images in counts.items())
    console.print(f"{content['data']}: images {splits}; anchors of {content['model']}")
    console.print(text, markup=False)
    fitted = content["fitted_recall"]
    if fitted is not None:
        before, after = content["anchor_recall"]["total"], fitted["total"]
        console.print(
            f"boxes made for this data (train with --anchors fit) would reach "
            f"{after['recall']:.1%} of the objects, these reach {before['recall']:.1%}:"
        )
        for old, new in zip(content["anchor_recall"]["by_class"], fitted["by_class"], strict=False):
            console.print(
                f"  {new['name']}: {old['recall']:.1%} → {new['recall']:.1%}", markup=False
            )


def _render_stats(console: Console, content: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=f"{content['data']} ({content['format']})")
    table.add_column("class")
    for name in content["splits"]:
        table.add_column(name, justify="right")
    for label in content["classes"]:
        counts = [split["classes"][label]["objects"] for split in content["splits"].values()]
        table.add_row(label, *map(str, counts))
    table.add_section()
    for row in ("objects", "images", "images_without_objects"):
        figures = [str(split[row]) for split in content["splits"].values()]
        table.add_row(row.replace("_", " "), *figures, style="bold")
    for size in ("small", "medium", "large"):
        figures = [str(split["object_areas"][size]) for split in content["splits"].values()]
        table.add_row(f"{size} objects", *figures)
    console.print(table)
    for name in ("mean", "std"):
        values = ", ".join(f"{value:.4f}" for value in content[name])
        console.print(f"{name:<5}{values}  (R, G, B in 0..1, of {content['measured_on']})")


def _render_written(console: Console, content: dict[str, Any]) -> None:
    splits = ", ".join(f"{name} {images} images" for name, images in content["splits"].items())
    console.print(f"{content['out']}  ({content['to']}): {splits}")
    console.print(f"classes: {', '.join(content['classes'])}")
