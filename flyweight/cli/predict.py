"""`flyweight predict`: a picture, folder, video or camera in, boxes out."""

from __future__ import annotations

import contextlib
import json as json_module
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Debug, Json, ModelFile, Runtime, Threads
from flyweight.cli.output import note, result

if TYPE_CHECKING:
    from rich.console import Console

    from flyweight.core.detections import Predictor

RESULTS_NAME = "detections.json"
WRITTEN_AS_THEY_ARE = (".jpg", ".jpeg", ".png")


SourceArgument = Annotated[
    str,
    typer.Argument(help="A picture, folder, video file or camera number.", metavar="SOURCE"),
]
Score = Annotated[float, typer.Option(min=0.0, max=1.0, help="Show detections from this score on.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder for drawn pictures and detections.json.", metavar="DIR")
]


def predict(
    file: ModelFile,
    source: SourceArgument,
    score: Score = 0.3,
    out: Out = None,
    runtime: Runtime = None,
    threads: Threads = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Find objects in pictures."""
    with result(as_json=json) as show:
        from flyweight.api import load

        predictor = load(file, threads=threads, runtime=runtime)
        if out is None:
            images = list(_detect(predictor, source, score=score, drawn=None))
        else:
            with _output_folder(out, source) as folder:
                images = list(_detect(predictor, source, score=score, drawn=folder))
                text = json_module.dumps({"images": images}, ensure_ascii=False, indent=1)
                (folder / RESULTS_NAME).write_text(text + "\n", encoding="utf-8")
        content = {"images": images}
        show(content, lambda console: _render(console, images, out))


def _detect(
    predictor: Predictor, source: str, *, score: float, drawn: Path | None
) -> Iterator[dict[str, Any]]:
    """One entry a picture; with `drawn`, a picture with its boxes is written there."""
    from flyweight.core.drawing import draw_detections
    from flyweight.core.image import write_image
    from flyweight.runtime.sources import iterate_source

    try:
        for frame in iterate_source(source):
            found = predictor.predict(frame.image, score=score)
            if drawn is not None:
                picture = draw_detections(frame.image, found, predictor.class_names, score=score)
                write_image(drawn / _drawn_name(frame.name, source), picture)
            yield {
                "path": frame.name,
                "width": int(frame.image.shape[1]),
                "height": int(frame.image.shape[0]),
                "detections": found.to_list(predictor.class_names),
            }
    except KeyboardInterrupt:
        if not source.isdigit():
            raise
        note("camera stopped")  # Ctrl-C is how one ends a camera; what it saw is kept


def _drawn_name(name: str, source: str) -> Path:
    """Where in the output folder the drawn picture of a frame goes."""
    path, _, number = name.partition("#")
    if number:
        return Path(f"{Path(path).stem}_{number}.jpg")
    shown = Path(name)
    relative = shown.relative_to(source) if Path(source).is_dir() else Path(shown.name)
    if relative.suffix.lower() in WRITTEN_AS_THEY_ARE:
        return relative
    return relative.with_name(f"{relative.name}.jpg")


@contextlib.contextmanager
def _output_folder(out: Path, source: str) -> Iterator[Path]:
    """A folder whose files move into `out` when the block ends well, and vanish otherwise.

    Raises:
        InputError: `out` is where the pictures themselves are, or cannot be written to.
    """
    from flyweight.core.errors import InputError
    from flyweight.core.files import writing_error

    original = Path(source)
    pictures = original if original.is_dir() else original.parent
    if original.exists() and out.exists() and out.resolve() == pictures.resolve():
        raise InputError(
            "the drawn pictures would replace the originals", where=out, fix="give another --out"
        )
    if out.exists() and not out.is_dir():
        raise InputError("this is not a folder", where=out, fix="give another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as name:
            staged = Path(name)
            yield staged
            for path in sorted(staged.rglob("*")):
                target = out / path.relative_to(staged)
                if path.is_file():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(path, target)
    except OSError as error:
        raise writing_error(out, error) from error


def _render(console: Console, images: list[dict[str, Any]], out: Path | None) -> None:
    for image in images:
        console.print(f"{image['path']}  {image['width']}×{image['height']}", style="bold")
        if not image["detections"]:
            console.print("  nothing found")
        for found in image["detections"]:
            box = ", ".join(f"{value:.1f}" for value in found["box_xyxy"])
            console.print(f"  {found['label']}  {found['score']:.3f}  [{box}]", markup=False)
    if out is not None:
        console.print(f"drawn pictures and {RESULTS_NAME} are in {out}")
