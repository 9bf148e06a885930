"""Where pictures come from: a file, a folder, an array, a video, a camera."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.core.image import IMAGE_SUFFIXES, read_image

Image = npt.NDArray[np.uint8]
Source = str | os.PathLike[str] | Image | int | Sequence[str | os.PathLike[str]]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
# Frames a second of a video that does not say.
USUAL_RATE = 25.0


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    Attributes:
        name: the file's path; `PATH#N` for frame N of a video; `camera0#N`; `array`.
        image: RGB uint8 `[H, W, 3]`, of the source's own size.
    """

    name: str
    image: Image


def iterate_source(source: Source) -> Iterator[Frame]:
    """The pictures of `source`, read one at a time.

    Args:
        source: an image file, a folder (its images by name, sub-folders too), a video file, a
            camera's number (also as text), an RGB uint8 array `[H, W, 3]`, or a list of paths.

    Raises:
        InputError: it does not exist, holds no picture, or cannot be read.
    """
    if isinstance(source, np.ndarray):
        yield Frame("array", checked_image(source))
    elif is_camera(source):
        yield from _iterate_video(int(cast(str, source)), f"camera{source}")
    elif isinstance(source, str | os.PathLike):
        if is_video(source):
            yield from _iterate_video(os.fspath(source), os.fspath(source))
        else:
            for file in image_files(Path(source)):
                yield Frame(str(file), read_image(file))
    else:
        for item in cast(Sequence[str], source):
            yield from iterate_source(item)


def is_video(source: Source) -> bool:
    """Whether the pictures of `source` follow each other in time: a video file or a camera."""
    if isinstance(source, str | os.PathLike) and not is_camera(source):
        path = Path(source)
        return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
    return is_camera(source)


def is_camera(source: Source) -> bool:
    """Whether `source` is the number of a camera."""
    return isinstance(source, int) or (isinstance(source, str) and source.isdigit())


def frames_per_second(source: Source) -> float:
    """Of a video file, as it says itself; `USUAL_RATE` of anything else."""
    if not is_video(source) or is_camera(source):
        return USUAL_RATE
    capture = cv2.VideoCapture(os.fspath(cast(str, source)))
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return rate if 1.0 <= rate <= 1000.0 else USUAL_RATE


def image_files(path: Path) -> list[Path]:
    """The picture at `path`, or all pictures of the folder `path`, sorted by name."""
    if not path.exists():
        raise InputError("the source does not exist", where=path, fix="check the path")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    files = [file for file in files if file.is_file() and not file.name.startswith(".")]
    if not files:
        raise InputError(
            "the folder has no pictures", where=path, fix=f"put {', '.join(IMAGE_SUFFIXES)} there"
        )
    return files


def checked_image(image: Image) -> Image:
    """`image` itself, where it is RGB uint8 `[H, W, 3]`."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(
            f"an array of type {image.dtype} and shape {list(image.shape)} is no picture",
            fix="give RGB uint8 of shape [H, W, 3]",
        )
    return image


def _iterate_video(target: str | int, name: str) -> Iterator[Frame]:
    capture = cv2.VideoCapture(target)
    try:
        if not capture.isOpened():
            kind = "camera" if isinstance(target, int) else "video"
            raise InputError(f"the {kind} cannot be opened", where=name)
        index = 0
        while True:
            ok, frame = capture.read()
            if not ok:
                break
            yield Frame(f"{name}#{index:06d}", np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))
            index += 1
        if index == 0:
            raise InputError("the video has no frame that can be read", where=name)
    finally:
        capture.release()
