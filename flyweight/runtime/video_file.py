"""Frames written as a video, whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.core.files import scratch_folder, writing_error

Image = npt.NDArray[np.uint8]
# The codec that OpenCV's own build encodes without anything else installed (MPEG-4 part 2).
CODEC = "mp4v"
SUFFIX = ".mp4"


@contextlib.contextmanager
def video_file(
    path: str | os.PathLike[str], *, frames_per_second: float
) -> Iterator[Callable[[Image], None]]:
    """Gives a function that appends an RGB uint8 `[H, W, 3]` frame; all have the first one's size.

    The file appears when the block ends well; without a single frame there is none.

    Raises:
        InputError: OpenCV here cannot write videos, or the disk is full.
    """
    target = Path(path)
    writers: list[cv2.VideoWriter] = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(target.parent) as folder:
            temporary = folder / target.name

            def append(image: Image) -> None:
                if not writers:
                    writers.append(_open(temporary, image, frames_per_second))
                writers[0].write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

            try:
                yield append
            finally:
                for writer in writers:
                    writer.release()
            if writers:
                os.replace(temporary, target)
    except OSError as error:
        raise writing_error(target, error) from error


def _open(path: Path, image: Image, frames_per_second: float) -> cv2.VideoWriter:
    height, width = image.shape[:2]
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*CODEC), frames_per_second, (width, height)
    )
    if not writer.isOpened():
        raise InputError(
            "this OpenCV writes no videos", where=path.name, fix="give --out without --video"
        )
    return writer
