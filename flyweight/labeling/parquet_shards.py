"""Shards as Parquet, which every table tool reads: a row a picture, the keys of the JSON lines.

pyarrow is loaded where a file is written or read, so that who has none of these needs none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from flyweight.core.detections import Detections
from flyweight.core.errors import InputError
from flyweight.labeling.labelled_image import LabelledImage, unread
from flyweight.labeling.weighted_box_fusion import FusedBoxes

# Rows that become Python objects at a time.
ROWS = 64
# Columns with one value a picture.
PLAIN = ("name", "problem", "size_hw", "sources")


def write_parquet(path: Path, rows: Iterable[LabelledImage]) -> None:
    """Write `rows` to `path`, one row group; what a picture without a problem has not is null."""
    arrow, parquet = _pyarrow()
    table = arrow.Table.from_pylist([row.to_dict() for row in rows], schema=_schema(arrow))
    parquet.write_table(table, path, compression="zstd")


def read_parquet(path: Path) -> Iterator[LabelledImage]:
    """The rows of `path`, in order.

    Raises:
        ValueError, OSError: it is no such file.
    """
    _, parquet = _pyarrow()
    with parquet.ParquetFile(path) as file:
        for part in file.iter_batches(batch_size=ROWS):
            yield from _images(part)


def read_parquet_names(path: Path) -> list[str]:
    """The names of the pictures; their boxes stay unread."""
    _, parquet = _pyarrow()
    names: Sequence[str] = parquet.read_table(path, columns=["name"])["name"].to_pylist()
    return list(names)


def _images(part: Any) -> Iterator[LabelledImage]:
    """The rows of a record batch, their boxes cut from the columns' own arrays."""
    starts = _offsets(part["scores"])
    scores = part["scores"].flatten().to_numpy()
    labels = part["labels"].flatten().to_numpy()
    boxes_xyxy = part["boxes_xyxy"].flatten().flatten().to_numpy().reshape(-1, 4)
    each = part["found_by"].flatten()
    found_by = np.zeros((len(scores), max([0, *filter(None, part["sources"].to_pylist())])), bool)
    found_by[np.repeat(np.arange(len(scores)), np.diff(_offsets(each))), each.flatten()] = True
    for row, (name, problem, size_hw, sources) in enumerate(
        zip(*(part[key].to_pylist() for key in PLAIN), strict=True)
    ):
        if problem is not None:
            yield unread(name, problem)
            continue
        own = slice(starts[row], starts[row + 1])
        found = Detections(boxes_xyxy[own], scores[own], labels[own])
        height, width = size_hw
        yield LabelledImage(name, (height, width), FusedBoxes(found, found_by[own, :sources]))


def _offsets(lists: Any) -> npt.NDArray[np.int64]:
    """`[N + 1]` where the values of each of N lists begin; a null is an empty list."""
    lengths = lists.value_lengths().fill_null(0).to_numpy()
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _schema(arrow: ModuleType) -> Any:
    """Float32 is what the boxes are in memory; the rounding to 0.01 pixels survives it."""
    box = arrow.list_(arrow.float32(), 4)
    return arrow.schema(
        [
            ("name", arrow.string()),
            ("problem", arrow.string()),
            ("size_hw", arrow.list_(arrow.int32(), 2)),
            ("boxes_xyxy", arrow.list_(box)),
            ("scores", arrow.list_(arrow.float32())),
            ("labels", arrow.list_(arrow.int32())),
            ("found_by", arrow.list_(arrow.list_(arrow.int16()))),
            ("sources", arrow.int16()),
        ]
    )


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "Parquet shards need pyarrow", fix="pip install 'flyweight[cluster]'"
        ) from error
    return pyarrow, pyarrow.parquet
