"""The boxes of many pictures, as shards: JSON lines or Parquet, each file whole or not there.

A run that was stopped goes on with the shards that are missing, in either format. Shards hold every
fused box, sure or not: other thresholds need no teacher.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from flyweight.core.detections import Detections
from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically
from flyweight.core.image import read_image_scaled
from flyweight.labeling.labeler import Labeler
from flyweight.labeling.labelled_image import LabelledImage, unread
from flyweight.labeling.parquet_shards import read_parquet, read_parquet_names, write_parquet
from flyweight.labeling.weighted_box_fusion import FusedBoxes

Image = npt.NDArray[np.uint8]
Pictures = Sequence[tuple[str, Path]]

READERS = 2
BATCHES_AHEAD = 2
SHARD_IMAGES = 500
BATCH = 8
JSON_LINES, PARQUET = ".jsonl", ".parquet"


class Engine(Protocol):
    """What labels pictures shard by shard: `write_shards` here, or machines of a cluster."""

    def __call__(
        self,
        pictures: Iterable[tuple[str, Path]],
        labeler: Labeler,
        folder: Path,
        *,
        shard_images: int = SHARD_IMAGES,
        batch: int = BATCH,
        keep: Callable[[str, Path], None] = lambda name, path: None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[Path]:
        """See `write_shards`."""
        ...


@dataclass(frozen=True)
class Shard:
    """A run of pictures that is labelled at one go: what is lost at most when a run is stopped.

    Attributes:
        stem: of its file, without the suffix of the format.
        pictures: name and file of each.
    """

    stem: Path
    pictures: Pictures

    def finished(self) -> Path | None:
        """Its file, in whichever format; None where it is still to be labelled.

        Raises:
            InputError: the file is of other pictures, or broken.
        """
        for suffix in (JSON_LINES, PARQUET):
            path = self.stem.with_suffix(suffix)
            if path.is_file():
                if read_names(path) != [name for name, _ in self.pictures]:
                    raise InputError(
                        "the shard is of other pictures",
                        where=path,
                        fix="label with the same --shard as before, or give a new --out",
                    )
                return path
        return None


def cut_into_shards(
    pictures: Iterable[tuple[str, Path]], folder: Path, shard_images: int
) -> Iterator[Shard]:
    """Shards `folder/00000`, `folder/00001` ... of so many pictures, in their order."""
    remaining = iter(pictures)
    for number in count():
        chunk = list(islice(remaining, shard_images))
        if not chunk:
            return
        yield Shard(folder / f"{number:05d}", chunk)


def write_shards(
    pictures: Iterable[tuple[str, Path]],
    labeler: Labeler,
    folder: Path,
    *,
    shard_images: int = SHARD_IMAGES,
    batch: int = BATCH,
    keep: Callable[[str, Path], None] = lambda name, path: None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """Label pictures, so many a shard; shards that are there already are passed over.

    No more than a shard's boxes and a few batches of pictures are in memory. A picture that is
    gone or broken becomes a line that says so.

    Args:
        pictures: name and file of each, in an order that is the same in every run.
        folder: for `00000.jsonl`, `00001.jsonl` ...
        keep: is called with name and file of each picture that was read, before its shard is
            written; one that is gone by then raises FileNotFoundError.
        progress: is told how many pictures are done.

    Returns:
        The shards, in order.

    Raises:
        InputError: the disk is full, or the shards there are of other pictures.
    """
    shards: list[Path] = []
    done = 0
    for shard in cut_into_shards(pictures, folder, shard_images):
        path = shard.finished() or label_shard(
            shard,
            labeler,
            batch=batch,
            keep=keep,
            progress=partial(_further, progress, done),
        )
        shards.append(path)
        done += len(shard.pictures)
        progress(done)
    return shards


def _further(progress: Callable[[int], None], before: int, labelled: int) -> None:
    progress(before + labelled)


def label_shard(
    shard: Shard,
    labeler: Labeler,
    *,
    suffix: str = JSON_LINES,
    batch: int = BATCH,
    keep: Callable[[str, Path], None] = lambda name, path: None,
    progress: Callable[[int], None] = lambda done: None,
) -> Path:
    """Label the pictures of one shard and write its file, in the format of `suffix`.

    `keep` and `progress` are those of `write_shards`; `progress` counts within the shard.

    Raises:
        InputError: the disk is full, or the folder of all the pictures is gone.
    """
    rows: list[LabelledImage] = []
    for row in _label(shard.pictures, labeler, batch, keep):
        rows.append(row)
        progress(len(rows))
    if all(row.problem == GONE for row in rows):
        _check_mounted(shard.pictures)
    path = shard.stem.with_suffix(suffix)
    with write_atomically(path) as temporary:
        if suffix == PARQUET:
            write_parquet(temporary, rows)
        else:
            lines = "\n".join(row.to_json() for row in rows)
            temporary.write_text(lines + "\n", encoding="utf-8")
    return path


def read_shards(shards: Iterable[Path]) -> Iterator[LabelledImage]:
    """The pictures of `shards`, one after the other.

    Raises:
        InputError: a shard is gone, or is none.
    """
    for shard in shards:
        try:
            if shard.suffix == PARQUET:
                yield from read_parquet(shard)
            else:
                with shard.open(encoding="utf-8") as lines:
                    yield from map(LabelledImage.from_json, lines)
        except UNREADABLE as error:
            raise _broken(shard) from error


def read_names(shard: Path) -> list[str]:
    """The names of the pictures of a shard.

    Raises:
        InputError: it is gone, or is none.
    """
    if shard.suffix != PARQUET:
        return [row.name for row in read_shards([shard])]
    try:
        return read_parquet_names(shard)
    except UNREADABLE as error:
        raise _broken(shard) from error


# pyarrow's errors are of these kinds too
UNREADABLE = (OSError, ValueError, KeyError, TypeError, IndexError)


def _broken(shard: Path) -> InputError:
    return InputError("the shard cannot be read", where=shard, fix="remove it and run again")


def _check_mounted(pictures: Pictures) -> None:
    """A disk that is not there is no reason to write down that its pictures do not exist."""
    folder = os.path.commonpath([path.parent for _, path in pictures])
    if not os.path.isdir(folder):
        raise InputError(
            f"the folder of the pictures is not there on {socket.gethostname()}",
            where=folder,
            fix="bring it back, at the same place on every machine, and run again",
        )


def _label(
    pictures: Pictures,
    labeler: Labeler,
    batch: int,
    keep: Callable[[str, Path], None],
) -> Iterator[LabelledImage]:
    """A line for each picture, in their order."""
    for part, read in _read_batches(pictures, batch, labeler.decode_size_hw):
        good = [each for each in read if not isinstance(each, str)]
        fused = iter(labeler([pixels for pixels, _ in good]) if good else [])
        for (name, path), each in zip(part, read, strict=True):
            if isinstance(each, str):
                yield unread(name, each)
                continue
            pixels, scale_xy = each
            boxes = next(fused)
            try:
                keep(name, path)
            except FileNotFoundError:
                yield unread(name, GONE)
                continue
            yield _in_file_pixels(name, pixels, scale_xy, boxes)


GONE = "the picture does not exist"


def _in_file_pixels(
    name: str, pixels: Image, scale_xy: tuple[float, float], boxes: FusedBoxes
) -> LabelledImage:
    """The line of a picture whose file has 1 / `scale_xy` times the pixels that were decoded."""
    scale_x, scale_y = scale_xy
    size_hw = round(pixels.shape[0] / scale_y), round(pixels.shape[1] / scale_x)
    found = boxes.detections
    factors = np.array([1 / scale_x, 1 / scale_y] * 2, np.float32)
    enlarged = Detections(found.boxes_xyxy * factors, found.scores, found.labels)
    return LabelledImage(name, size_hw, FusedBoxes(enlarged, boxes.found_by))


Read = tuple[Image, tuple[float, float]] | str


def _read_batches(
    pictures: Pictures, batch: int, min_size_hw: tuple[int, int] | None
) -> Iterator[tuple[Pictures, list[Read]]]:
    """Batches of pictures with what was read of each, ahead of the teachers."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="read-images") as pool:
        pending: deque[tuple[Pictures, list[Future[Read]]]] = deque()
        try:
            for start in range(0, len(pictures), batch):
                part = pictures[start : start + batch]
                pending.append((part, [pool.submit(_read, path, min_size_hw) for _, path in part]))
                if len(pending) > BATCHES_AHEAD:
                    names, futures = pending.popleft()
                    yield names, [future.result() for future in futures]
            for names, futures in pending:
                yield names, [future.result() for future in futures]
        finally:
            # after an error or an abandoned loop, do not read what nobody will look at
            pool.shutdown(wait=True, cancel_futures=True)


def _read(path: Path, min_size_hw: tuple[int, int] | None) -> Read:
    """The pixels and the factors (x, y) from the file's to them; or why there are none."""
    try:
        pixels, scale_x, scale_y = read_image_scaled(path, min_size_hw)
    except InputError as error:
        return error.what
    return pixels, (scale_x, scale_y)
