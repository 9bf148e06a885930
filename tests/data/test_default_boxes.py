from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from flyweight.core.errors import InputError
from flyweight.data.anchor_recall import anchor_recall
from flyweight.data.default_boxes import (
    _offset_iou,
    assign_levels,
    fit_default_boxes,
    published_default_boxes,
    relative_boxes,
    tile_default_boxes,
)
from flyweight.data.formats import open_dataset
from flyweight.data.records import DetectionDataset, Record

GRIDS = [(side, side) for side in (20, 10, 5, 3, 2, 1)]
SIZE = (320, 320)


def dataset(boxes_xyxy: list[np.ndarray], size_hw: tuple[int, int] = SIZE) -> DetectionDataset:
    """One image for each array of boxes, all of one class."""
    records = tuple(
        Record(
            image_id=k,
            path=Path(f"{k}.jpg"),
            size_hw=size_hw,
            boxes_xyxy=np.asarray(boxes, np.float32).reshape(-1, 4),
            labels=np.zeros(len(boxes), np.int64),
            crowd=np.zeros(len(boxes), bool),
            difficult=np.zeros(len(boxes), bool),
        )
        for k, boxes in enumerate(boxes_xyxy)
    )
    return DetectionDataset(records, ("thing",), Path("."), "train", "coco")


def placed(wh: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Boxes of these sizes, in pixels, at random places of a 320 x 320 image."""
    corner = rng.uniform(0, 1, wh.shape) * (320 - wh)
    return np.concatenate([corner, corner + wh], axis=1)


@pytest.mark.parametrize("ratios", [[[2, 3]] * 6, [[2], [2, 3], [2]]])
def test_published_boxes_and_tiling_equal_torchvision(ratios: list[list[int]]) -> None:
    generator = DefaultBoxGenerator(ratios, min_ratio=0.2, max_ratio=0.95)
    grids = GRIDS[: len(ratios)]
    features = [torch.zeros(1, 1, rows, columns) for rows, columns in grids]
    images = ImageList(torch.zeros(1, 3, *SIZE), [SIZE])
    expected = generator(images, features)[0].numpy() / 320
    boxes = published_default_boxes(ratios, min_ratio=0.2, max_ratio=0.95)
    np.testing.assert_allclose(tile_default_boxes(grids, boxes), expected, atol=1e-6)


def test_tiling_of_a_grid_that_is_not_square() -> None:
    anchors = tile_default_boxes([(2, 3)], [[(0.1, 0.2)]])
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    expected = [(x, y) for y in (0.25, 0.75) for x in (1 / 6, 3 / 6, 5 / 6)]
    np.testing.assert_allclose(centres, expected)
    np.testing.assert_allclose(anchors[:, 2:] - anchors[:, :2], [(0.1, 0.2)] * 6)


def test_offset_iou_is_the_iou_of_shifted_boxes(rng_boxes: np.random.Generator) -> None:
    from torchvision.ops import box_iou

    wh = rng_boxes.uniform(5, 60, (40, 2))
    offsets = rng_boxes.uniform(-30, 30, (40, 2))
    anchors = rng_boxes.uniform(5, 60, (7, 2))
    objects = torch.tensor(np.concatenate([offsets - wh / 2, offsets + wh / 2], 1))
    tiles = torch.tensor(np.concatenate([-anchors / 2, anchors / 2], 1))
    np.testing.assert_allclose(
        _offset_iou(wh, offsets, anchors), box_iou(objects, tiles), atol=1e-9
    )


@pytest.fixture
def rng_boxes() -> np.random.Generator:
    return np.random.default_rng(3)


def test_objects_go_to_the_finest_level_that_suits_them() -> None:
    strides = np.array([(16.0, 16.0), (32.0, 32.0), (64.0, 64.0)])
    wh = np.array([(20.0, 20), (79, 79), (81, 81), (159, 161), (170, 170), (900, 900)])
    assert assign_levels(wh, strides).tolist() == [0, 0, 1, 1, 2, 2]


def test_fit_finds_the_sizes_the_data_was_made_of(rng_boxes: np.random.Generator) -> None:
    # Two shapes far apart and large beside the stride, where offsets matter little.
    shapes = np.array([(40.0, 70.0), (75.0, 38.0)])
    wh = shapes[rng_boxes.integers(0, 2, 400)] * rng_boxes.uniform(0.97, 1.03, (400, 2))
    fitted = fit_default_boxes(
        dataset([placed(wh, rng_boxes)]), [(40, 40)], [2], SIZE, [[(1, 1)] * 2], jitter=1.0
    )
    assert np.asarray(fitted[0]) * 320 == pytest.approx(shapes, rel=0.12)


def test_fit_reaches_small_objects_that_the_published_boxes_miss(
    rng_boxes: np.random.Generator,
) -> None:
    wh = rng_boxes.uniform(18, 40, (300, 2))
    data = dataset([placed(wh, rng_boxes)])
    boxes, _ = relative_boxes(data)
    published = published_default_boxes()
    fitted = fit_default_boxes(data, GRIDS, [6] * 6, SIZE, published)
    before = anchor_recall(boxes, tile_default_boxes(GRIDS, published)).total.recall
    after = anchor_recall(boxes, tile_default_boxes(GRIDS, fitted)).total.recall
    assert before < 0.1
    assert after > 0.75


def test_fit_is_sorted_repeatable_and_keeps_levels_without_objects(
    rng_boxes: np.random.Generator,
) -> None:
    data = dataset([placed(rng_boxes.uniform(20, 70, (100, 2)), rng_boxes)])
    published = published_default_boxes()
    fitted = fit_default_boxes(data, GRIDS, [6] * 6, SIZE, published)
    assert fitted == fit_default_boxes(data, GRIDS, [6] * 6, SIZE, published)
    assert fitted[1:] == published[1:]
    areas = [w * h for w, h in fitted[0]]
    assert areas == sorted(areas)
    assert [len(level) for level in fitted] == [6] * 6
    assert all(0 < side <= 1 for level in fitted for box in level for side in box)


def test_a_rare_class_gets_a_box_of_its_own_by_class_balance(
    rng_boxes: np.random.Generator,
) -> None:
    # Two boxes, two frequent shapes, and one that is rare.
    shapes = np.array([(44.0, 80.0), (80.0, 44.0)])
    common = placed(shapes[np.arange(400) % 2], rng_boxes)
    rare = placed(np.full((4, 2), 24.0), rng_boxes)
    data = dataset([np.concatenate([common, rare])])
    record = data.records[0]
    record.labels[400:] = 1
    smallest = {}
    for balance in (0.0, 1.0):
        fitted = fit_default_boxes(
            data, [(20, 20)], [2], SIZE, [[(1, 1)] * 2], class_balance=balance, jitter=1.1
        )
        smallest[balance] = fitted[0][0][0] * 320
    assert smallest[1.0] < 40 < smallest[0.0]


def test_crowds_and_broken_boxes_take_no_part() -> None:
    data = dataset([np.array([(0, 0, 32, 32), (0, 0, 320, 320), (5, 5, 5, 9), (0, 0, np.nan, 9)])])
    data.records[0].crowd[1] = True
    boxes, labels = relative_boxes(data)
    np.testing.assert_allclose(boxes, [(0, 0, 0.1, 0.1)])
    assert labels.tolist() == [0]


def test_no_objects_and_a_bad_jitter_are_input_errors() -> None:
    published = published_default_boxes()
    with pytest.raises(InputError, match="no object"):
        fit_default_boxes(dataset([np.zeros((0, 4))]), GRIDS, [6] * 6, SIZE, published)
    with pytest.raises(InputError, match="jitter"):
        fit_default_boxes(
            dataset([np.array([(0, 0, 9, 9)])]), GRIDS, [6] * 6, SIZE, published, jitter=0.5
        )


def test_platelets_of_bccd_are_reached(bccd_dir: Path) -> None:
    train, test = open_dataset(bccd_dir, "train"), open_dataset(bccd_dir, "test")
    published = published_default_boxes()
    fitted = fit_default_boxes(train, GRIDS, [6] * 6, SIZE, published)
    boxes, labels = relative_boxes(test)

    def platelets(sizes: list[list[tuple[float, float]]]) -> float:
        anchors = tile_default_boxes(GRIDS, sizes)
        report = anchor_recall(boxes, anchors, labels=labels, class_names=test.class_names)
        return {row.name: row.recall for row in report.by_class}["Platelets"]

    assert platelets(published) < 0.05
    assert platelets(fitted) > 0.55
