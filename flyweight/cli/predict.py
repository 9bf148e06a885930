"""`flyweight predict`: a picture, folder, video or camera in, boxes out."""

from __future__ import annotations

import contextlib
import json as json_module
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Debug, Json, ModelFile, Runtime, Threads
from flyweight.cli.output import note, result

if TYPE_CHECKING:
    from rich.console import Console

    from flyweight.core.detections import Detections, Predictor
    from flyweight.runtime.sources import Image
    from flyweight.runtime.stream import StreamedFrame

RESULTS_NAME = "detections.json"
WRITTEN_AS_THEY_ARE = (".jpg", ".jpeg", ".png")
# A track lives on through detections that nobody is shown.
TRACKED_SCORE = 0.1

SourceArgument = Annotated[
    str,
    typer.Argument(help="A picture, folder, video file or camera number.", metavar="SOURCE"),
]
Score = Annotated[float, typer.Option(min=0.0, max=1.0, help="Show detections from this score on.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder for drawn pictures and detections.json.", metavar="DIR")
]
Track = Annotated[
    bool, typer.Option("--track", help="Number the objects of a video through its frames.")
]
Video = Annotated[
    bool, typer.Option("--video", help="Write a video's frames into --out as one .mp4.")
]


def predict(
    file: ModelFile,
    source: SourceArgument,
    score: Score = 0.3,
    out: Out = None,
    track: Track = False,
    video: Video = False,
    runtime: Runtime = None,
    threads: Threads = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Find objects in pictures, a video, or what a camera sees.

    Reading, detecting and drawing of a video overlap. A camera's frames that come while the network
    is busy are dropped, so that what is shown is never old.
    """
    with result(as_json=json) as show:
        from flyweight.api import load
        from flyweight.core.errors import InputError
        from flyweight.runtime.sources import is_video

        if (track or video) and not is_video(source):
            raise InputError(
                "only the frames of a video or a camera follow each other",
                where=source,
                fix="leave --track and --video out",
            )
        if video and out is None:
            raise InputError("--video needs a place for its file", fix="add --out DIR")
        predictor = load(file, threads=threads, runtime=runtime)
        detect = _detect_frames if is_video(source) else _detect_pictures
        if out is None:
            images = list(detect(predictor, source, _Wish(score, track)))
        else:
            with _output_folder(out, source) as folder:
                wish = _Wish(score, track, drawn=folder, video=video)
                images = list(detect(predictor, source, wish))
                text = json_module.dumps({"images": images}, ensure_ascii=False, indent=1)
                (folder / RESULTS_NAME).write_text(text + "\n", encoding="utf-8")
        content = {"images": images}
        show(content, lambda console: _render(console, images, out))


@dataclass(frozen=True)
class _Wish:
    """What is to be done with what is found: `drawn` is where pictures go, None for none."""

    score: float
    track: bool = False
    drawn: Path | None = None
    video: bool = False


def _detect_pictures(predictor: Predictor, source: str, wish: _Wish) -> Iterator[dict[str, Any]]:
    """One entry a picture."""
    from flyweight.core.drawing import draw_detections
    from flyweight.core.image import write_image
    from flyweight.runtime.sources import iterate_source

    for frame in iterate_source(source):
        found = predictor.predict(frame.image, score=wish.score)
        if wish.drawn is not None:
            picture = draw_detections(frame.image, found, predictor.class_names, score=wish.score)
            write_image(wish.drawn / _drawn_name(frame.name, source), picture)
        yield _entry(frame.name, frame.image, found.to_list(predictor.class_names))


def _detect_frames(predictor: Predictor, source: str, wish: _Wish) -> Iterator[dict[str, Any]]:
    """One entry a frame that was not dropped; with `track`, each detection has its number."""
    from flyweight.runtime.stream import Stream
    from flyweight.runtime.tracking import UNTRACKED, Tracker

    tracker = Tracker() if wish.track else None
    least = min(wish.score, TRACKED_SCORE) if wish.track else wish.score
    stream = Stream(predictor, source, score=least)
    try:
        with _frame_writer(predictor, source, wish) as draw:
            for frame in stream:
                shown = frame.detections.above(wish.score)
                detections = shown.to_list(predictor.class_names)
                if tracker is not None:
                    numbers = tracker.update(
                        frame.detections,
                        seconds=frame.seconds,
                        size_hw=(frame.image.shape[0], frame.image.shape[1]),
                    )
                    for each, number in zip(detections, numbers.tolist(), strict=False):
                        each["track"] = None if number == UNTRACKED else number
                draw(frame, shown, [each.get("track") for each in detections])
                yield _entry(frame.name, frame.image, detections)
    except KeyboardInterrupt:
        if not source.isdigit():
            raise
        note("camera stopped")  # Ctrl-C is how one ends a camera; what it saw is kept
    finally:
        stream.close()
    if stream.dropped:
        note(f"{stream.dropped} of {stream.read} frames came while the network was busy: dropped")


@contextlib.contextmanager
def _frame_writer(
    predictor: Predictor, source: str, wish: _Wish
) -> Iterator[Callable[[StreamedFrame, Detections, list[int | None]], None]]:
    """Gives what draws a frame: into pictures, one video, or nowhere."""
    from flyweight.core.drawing import detection_texts, draw_boxes
    from flyweight.core.image import write_image
    from flyweight.runtime.sources import frames_per_second
    from flyweight.runtime.video_file import SUFFIX, video_file

    def drawn(frame: StreamedFrame, shown: Detections, numbers: list[int | None]) -> Image:
        texts = detection_texts(shown, predictor.class_names)
        numbered = [
            text if number is None else f"#{number} {text}"
            for text, number in zip(texts, numbers, strict=True)
        ]
        # Best on top.
        return draw_boxes(frame.image, shown.boxes_xyxy[::-1], shown.labels[::-1], numbered[::-1])

    if wish.drawn is None:
        yield lambda frame, shown, numbers: None
    elif wish.video:
        name = f"camera{source}" if source.isdigit() else Path(source).stem
        rate = frames_per_second(source)
        with video_file(wish.drawn / f"{name}{SUFFIX}", frames_per_second=rate) as append:
            yield lambda frame, shown, numbers: append(drawn(frame, shown, numbers))
    else:
        folder = wish.drawn
        yield lambda frame, shown, numbers: write_image(
            folder / _drawn_name(frame.name, source), drawn(frame, shown, numbers)
        )


def _entry(name: str, image: Image, detections: list[dict[str, Any]]) -> dict[str, Any]:
    """What is said of one picture."""
    return {
        "path": name,
        "width": int(image.shape[1]),
        "height": int(image.shape[0]),
        "detections": detections,
    }


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
    from flyweight.core.files import scratch_folder, writing_error

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
        with scratch_folder(out.parent) as staged:
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
            number = f"#{found['track']}  " if found.get("track") else ""
            line = f"  {number}{found['label']}  {found['score']:.3f}  [{box}]"
            console.print(line, markup=False)
    if out is not None:
        console.print(f"drawn pictures and {RESULTS_NAME} are in {out}")
