"""Labelled pictures as a transform is given them, and where it gets others and their pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Picture:
    """One labelled picture, not yet read.

    Attributes:
        source: file, or RGB uint8 `[H, W, 3]`.
        boxes_xyxy: `[G, 4]` in pixels of the picture.
        labels: `[G]`; below 0: no object, but a region where nothing is asked.
        size_hw: of the picture as annotated.
    """

    source: str | os.PathLike[str] | Image
    boxes_xyxy: npt.NDArray[np.floating]
    labels: npt.NDArray[np.integer]
    size_hw: tuple[int, int]


class Pictures(Protocol):
    """Pictures by index: a whole data set, or a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Picture: ...


class ReadImage(Protocol):
    """What `flyweight.core.image.read_image` does with a file.

    The pixels are RGB uint8 `[H, W, 3]`, perhaps at a reduced scale whose sides are twice
    `min_size_hw` at least; nobody writes into them.
    """

    def __call__(
        self, source: str | os.PathLike[str], /, *, min_size_hw: tuple[int, int] | None
    ) -> Image: ...
