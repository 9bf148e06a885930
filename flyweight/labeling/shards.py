"""The boxes of many pictures, as shards: JSON lines, each file whole or not there at all.

A run that was stopped goes on at the first shard that is missing. Shards hold every fused box, sure
or not: other thresholds need no teacher.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flyweight.core.detections import Detections
from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically
from flyweight.core.image import read_image_scaled
from flyweight.labeling.labeler import Labeler
from flyweight.labeling.weighted_box_fusion import FusedBoxes

# N boxes of a picture, S sources

Image = npt.NDArray[np.uint8]

READERS = 2
BATCHES_AHEAD = 2
SHARD_IMAGES = 500
BATCH = 8


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """A line of a shard.

    Attributes:
        name: of the picture.
        size_hw: its height and width, pixels; (0, 0) where it could not be read.
        boxes: the fused boxes, in its pixels.
        problem: why it could not be read, else None.
    """

    name: str
    size_hw: tuple[int, int]
    boxes: FusedBoxes
    problem: str | None = None

    def to_json(self) -> str:
        """One line; boxes to 0.01 pixels, scores to five digits."""
        found = self.boxes.detections
        content: dict[str, Any] = {"name": self.name}
        if self.problem is not None:
            content["problem"] = self.problem
        else:
            content |= {
                "size_hw": self.size_hw,
                "boxes_xyxy": found.boxes_xyxy.astype(np.float64).round(2).tolist(),
                "scores": found.scores.astype(np.float64).round(5).tolist(),
                "labels": found.labels.tolist(),
                "found_by": [np.flatnonzero(row).tolist() for row in self.boxes.found_by],
                "sources": self.boxes.found_by.shape[1],
            }
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> LabelledImage:
        """The inverse of `to_json`."""
        content = json.loads(text)
        if "problem" in content:
            return unread(content["name"], content["problem"])
        found_by = np.zeros((len(content["scores"]), content["sources"]), dtype=bool)
        for row, sources in zip(found_by, content["found_by"], strict=True):
            row[sources] = True
        height, width = content["size_hw"]
        found = Detections(content["boxes_xyxy"], content["scores"], content["labels"])
        return LabelledImage(content["name"], (height, width), FusedBoxes(found, found_by))


def unread(name: str, problem: str) -> LabelledImage:
    """A picture that could not be read, and why."""
    return LabelledImage(
        name, (0, 0), FusedBoxes(Detections.empty(), np.zeros((0, 0), bool)), problem
    )


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
    remaining, done = iter(pictures), 0
    while chunk := list(islice(remaining, shard_images)):
        shard = folder / f"{len(shards):05d}.jsonl"
        shards.append(shard)
        if shard.is_file():
            _check_same(shard, [name for name, _ in chunk])
        else:
            rows = []
            for row in _label(chunk, labeler, batch, keep):
                rows.append(row.to_json())
                progress(done + len(rows))
            with write_atomically(shard) as temporary:
                temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")
        done += len(chunk)
        progress(done)
    return shards


def read_shards(shards: Iterable[Path]) -> Iterator[LabelledImage]:
    """The pictures of `shards`, one after the other.

    Raises:
        InputError: a shard is gone, or is none.
    """
    for shard in shards:
        try:
            with shard.open(encoding="utf-8") as lines:
                yield from map(LabelledImage.from_json, lines)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(
                "the shard cannot be read", where=shard, fix="remove it and run again"
            ) from error


def _check_same(shard: Path, names: Sequence[str]) -> None:
    if [row.name for row in read_shards([shard])] != list(names):
        raise InputError(
            "the shard is of other pictures",
            where=shard,
            fix="label with the same --shard as before, or give a new --out",
        )


def _label(
    pictures: Sequence[tuple[str, Path]],
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
    pictures: Sequence[tuple[str, Path]], batch: int, min_size_hw: tuple[int, int] | None
) -> Iterator[tuple[Sequence[tuple[str, Path]], list[Read]]]:
    """Batches of pictures with what was read of each, ahead of the teachers."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="read-images") as pool:
        pending: deque[tuple[Sequence[tuple[str, Path]], list[Future[Read]]]] = deque()
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
