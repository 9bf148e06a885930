"""Small data sets on disk, and data sets drawn by hypothesis, for the tests of the formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import strategies as st

from flyweight.data.records import DetectionDataset, Record

SIZES_HW = ((48, 64), (31, 57), (200, 10))
CLASS_NAMES = ("cat", 'a "quoted" dog', "vélo & co <x>", "yes")


def write_picture(path: Path, size_hw: tuple[int, int] = (48, 64)) -> Path:
    """A grey picture of that size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*size_hw, 3), 90, np.uint8))
    return path


@pytest.fixture(scope="session")
def draw_picture() -> Callable[..., Path]:
    """`write_picture`, for tests that lay out a folder of their own."""
    return write_picture


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One picture of each of SIZES_HW; the last two have one name in different folders."""
    root = tmp_path_factory.mktemp("pictures")
    names = ("a/a one.png", "a/b.jpg", "c/b.png")
    return [write_picture(root / name, size) for name, size in zip(names, SIZES_HW, strict=True)]


@st.composite
def _records(draw: st.DrawFn, paths: list[Path]) -> list[Record]:
    records = []
    for number, (path, size_hw) in enumerate(zip(paths, SIZES_HW, strict=True)):
        height, width = size_hw
        count = draw(st.integers(0, 4))
        boxes, labels, flags, areas = [], [], [], []
        for _ in range(count):
            corner = [
                draw(st.floats(0, limit - 1, width=32, allow_subnormal=False))
                for limit in (width, height)
            ]
            end = [
                start + 0.5 + draw(st.floats(0, 1)) * (limit - start - 0.5)
                for limit, start in zip((width, height), corner, strict=True)
            ]
            boxes.append([*corner, *end])
            labels.append(draw(st.integers(0, len(CLASS_NAMES) - 1)))
            flags.append(draw(st.sampled_from([(False, False), (True, False), (False, True)])))
            areas.append(draw(st.floats(0.25, 1e4, width=32)))
        box_array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        box_array = np.minimum(box_array, np.array([width, height] * 2, np.float32))
        flag_array = np.array(flags, dtype=bool).reshape(-1, 2)
        records.append(
            Record(
                image_id=100 - number,
                path=path,
                size_hw=size_hw,
                boxes_xyxy=box_array,
                labels=np.array(labels, dtype=np.int64),
                crowd=flag_array[:, 0],
                difficult=flag_array[:, 1],
                areas=np.array(areas, dtype=np.float32),
            )
        )
    return records


@pytest.fixture(scope="session")
def datasets(pictures: list[Path]) -> Callable[[], st.SearchStrategy[dict[str, DetectionDataset]]]:
    """Strategy of a data set with two splits: two images in train, one of a taken name in val."""

    def strategy() -> st.SearchStrategy[dict[str, DetectionDataset]]:
        def split(records: list[Record]) -> dict[str, DetectionDataset]:
            root = pictures[0].parent
            return {
                "train": DetectionDataset(tuple(records[:2]), CLASS_NAMES, root, "train", "test"),
                "val": DetectionDataset(tuple(records[2:]), CLASS_NAMES, root, "val", "test"),
            }

        return _records(pictures).map(split)

    return strategy
