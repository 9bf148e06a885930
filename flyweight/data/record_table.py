"""The records of a large data set as columns: a `Record` is made when it is asked for.

A `Record` of its own takes about 2.5 kB, mostly the headers of its small arrays; a row here takes
its path and 30 bytes an object. A million images fit beside a training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from flyweight.data.records import Record

# N images, G objects of all of them


@dataclass(frozen=True, eq=False)
class RecordTable(Sequence[Record]):
    """N images and their objects, which lie side by side in the order of the images.

    Attributes:
        image_ids: `[N]`.
        paths: `[N]`.
        sizes_hw: `[N, 2]` pixels.
        ends: `[N]`, where each image's objects end; they start where the last one's end.
        boxes_xyxy: `[G, 4]` float32 pixels.
        labels: `[G]` int64.
        crowd, difficult: `[G]` bool.
        areas: `[G]` float32 square pixels.
    """

    image_ids: Sequence[int | str]
    paths: Sequence[str]
    sizes_hw: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    boxes_xyxy: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_]
    difficult: npt.NDArray[np.bool_]
    areas: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        row = range(len(self))[index]
        objects = slice(int(self.ends[row - 1]) if row else 0, int(self.ends[row]))
        height, width = self.sizes_hw[row].tolist()
        return Record(
            image_id=self.image_ids[row],
            path=Path(self.paths[row]),
            size_hw=(height, width),
            boxes_xyxy=self.boxes_xyxy[objects],
            labels=self.labels[objects],
            crowd=self.crowd[objects],
            difficult=self.difficult[objects],
            areas=self.areas[objects],
        )

    def take(self, indices: Iterable[int]) -> RecordTable:
        """The images at `indices`, in that order."""
        rows = np.array([range(len(self))[int(index)] for index in indices], dtype=np.int64)
        starts = np.concatenate([[0], self.ends[:-1]])[rows] if len(self) else rows
        counts = self.ends[rows] - starts
        ends = np.cumsum(counts)
        # of each object, how far into its image's it is, and where those start
        objects = np.arange(counts.sum()) + np.repeat(starts - (ends - counts), counts)
        return RecordTable(
            image_ids=[self.image_ids[row] for row in rows.tolist()],
            paths=[self.paths[row] for row in rows.tolist()],
            sizes_hw=self.sizes_hw[rows],
            ends=ends,
            boxes_xyxy=self.boxes_xyxy[objects],
            labels=self.labels[objects],
            crowd=self.crowd[objects],
            difficult=self.difficult[objects],
            areas=self.areas[objects],
        )

    def renumbered(self, number_of: npt.NDArray[np.int64]) -> RecordTable:
        """The same with `number_of[label]` in place of each label."""
        return replace(self, labels=number_of[self.labels])
