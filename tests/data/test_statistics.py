from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.data.formats import open_dataset
from flyweight.data.records import DetectionDataset, Record
from flyweight.data.statistics import channel_statistics, dataset_statistics


def record(path: Path, size_hw: tuple[int, int], boxes: object = (), **fields: object) -> Record:
    boxes_xyxy = np.asarray(boxes, np.float32).reshape(-1, 4)
    count = len(boxes_xyxy)
    values: dict[str, object] = {
        "labels": np.zeros(count, np.int64),
        "crowd": np.zeros(count, bool),
        "difficult": np.zeros(count, bool),
    } | fields
    return Record(image_id=path.stem, path=path, size_hw=size_hw, boxes_xyxy=boxes_xyxy, **values)  # type: ignore[arg-type]


def dataset(records: list[Record], names: tuple[str, ...] = ("a", "b")) -> DetectionDataset:
    return DetectionDataset(tuple(records), names, Path("."), "train", "coco")


def test_channel_statistics_equal_numpy_over_all_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records, pixels = [], []
    # Different sizes and levels: images must weigh by their pixels.
    for k, size_hw in enumerate([(7, 5), (40, 61), (3, 200)]):
        image = rng.integers(30 * k, 100 + 50 * k, (*size_hw, 3)).astype(np.uint8)
        path = tmp_path / f"{k}.png"
        cv2.imwrite(str(path), image[..., ::-1])
        records.append(record(path, size_hw))
        pixels.append(image.reshape(-1, 3).astype(np.float64) / 255)
    done: list[int] = []
    mean, std = channel_statistics(dataset(records), progress=done.append)
    every = np.concatenate(pixels)
    np.testing.assert_allclose(mean, every.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, every.std(axis=0), rtol=1e-10)
    assert done == [1, 2, 3]


def test_channel_statistics_of_nothing_or_a_missing_file_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty"):
        channel_statistics(dataset([]))
    with pytest.raises(InputError):
        channel_statistics(dataset([record(tmp_path / "none.jpg", (5, 5))]))


def test_dataset_statistics_counts_and_sizes() -> None:
    first = record(
        Path("1.jpg"),
        (100, 200),
        [(0, 0, 20, 10), (0, 0, 50, 50), (0, 0, 200, 100), (0, 0, 90, 90)],
        labels=np.array([0, 1, 1, 0]),
        crowd=np.array([False, False, False, True]),
        difficult=np.array([True, False, False, False]),
    )
    figures = dataset_statistics(dataset([first, record(Path("2.jpg"), (100, 200))]))
    assert figures["images"] == 2
    assert figures["images_without_objects"] == 1
    assert figures["objects"] == 3
    assert figures["crowd_regions"] == 1
    assert figures["difficult_objects"] == 1
    assert figures["classes"] == {
        "a": {"objects": 1, "images": 1},
        "b": {"objects": 2, "images": 1},
    }
    assert figures["object_areas"] == {"small": 1, "medium": 1, "large": 1}
    assert figures["objects_per_image"]["mean"] == 1.5
    assert figures["image_sizes_hw"] == [{"size_hw": [100, 200], "images": 2}]
    sides = np.sqrt([0.1 * 0.1, 0.25 * 0.5, 1.0])
    assert figures["relative_side"]["median"] == pytest.approx(np.median(sides))
    assert figures["aspect_ratio"]["max"] == 2.0
    json.dumps(figures)


def test_areas_of_the_annotation_decide_small_medium_large() -> None:
    one = record(Path("1.jpg"), (500, 500), [(0, 0, 100, 100)], areas=np.array([900.0], np.float32))
    assert dataset_statistics(dataset([one]))["object_areas"]["small"] == 1


def test_an_empty_data_set_has_figures_too() -> None:
    figures = dataset_statistics(dataset([]))
    assert figures["images"] == figures["objects"] == 0
    assert figures["relative_side"] == {}


def test_coco_sizes_equal_pycocotools(tiny_coco_dir: Path) -> None:
    from pycocotools.coco import COCO

    figures = dataset_statistics(open_dataset(tiny_coco_dir, "val"))
    coco = COCO(str(next((tiny_coco_dir / "annotations").glob("instances_val*.json"))))
    limits = {"small": [0, 32**2 - 1e-9], "medium": [32**2, 96**2 - 1e-9], "large": [96**2, 1e10]}
    for name, (low, high) in limits.items():
        assert figures["object_areas"][name] == len(
            [a for a in coco.loadAnns(coco.getAnnIds(iscrowd=False)) if low <= a["area"] <= high]
        )
