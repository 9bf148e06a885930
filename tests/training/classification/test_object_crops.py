"""Which part of a picture stands for an object, worked out by hand; what counts as background."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from flyweight.data.formats import open_dataset
from flyweight.data.records import DetectionDataset, Record
from flyweight.training.classification.object_crops import (
    BACKGROUND,
    object_crops,
    square_regions,
)

SIZE_HW = (100, 200)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        # 40 high: 40 + 2 * 0.15 * 40 = 52 around the centre (50, 60)
        ((40, 40, 60, 80), (24, 34, 76, 86)),
        # the same square from a corner is moved inside, in x by 16, in y by 6
        ((0, 0, 20, 40), (0, 0, 52, 52)),
        ((180, 60, 200, 100), (148, 48, 200, 100)),
        # 130 do not fit into 100: all of the height, and in x 130 around 100
        ((50, 20, 150, 60), (35, 0, 165, 100)),
        ((0, 0, 200, 100), (0, 0, 200, 100)),
    ],
)
def test_regions(box: tuple[float, ...], expected: tuple[float, ...]) -> None:
    found = square_regions(np.array([box], np.float32), SIZE_HW, context=0.15)
    np.testing.assert_allclose(found, [expected], atol=1e-4)


def test_a_picture_without_boxes_has_no_regions() -> None:
    assert square_regions(np.zeros((0, 4), np.float32), SIZE_HW, context=0.15).shape == (0, 4)


def record(number: int, boxes: Sequence[tuple[float, ...]], *, crowd: int | None = None) -> Record:
    """A picture whose objects are of the classes 0, 1, 0, ...; the `crowd`-th is a crowd."""
    return Record(
        image_id=number,
        path=Path(f"{number}.jpg"),
        size_hw=SIZE_HW,
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.arange(len(boxes)) % 2,
        crowd=np.arange(len(boxes)) == crowd,
        difficult=np.zeros(len(boxes), bool),
    )


def test_crowds_and_specks_are_left_out() -> None:
    boxes = [(10, 10, 40, 40), (60, 10, 90, 40), (100, 10, 107, 17), (0, 50, 200, 100)]
    data = DetectionDataset((record(7, boxes, crowd=3),), ("a", "b"), Path("d"), "train", "coco")
    crops = object_crops(data, background=False)
    assert [crop.image_id for crop in crops.records] == ["7#0", "7#1"]
    assert [crop.labels.tolist() for crop in crops.records] == [[0], [1]]
    assert crops.class_names == ("a", "b")
    assert {crop.path.name for crop in crops.records} == {"7.jpg"}


def test_background_holds_next_to_nothing_of_any_object(voc6_dir: Path) -> None:
    data = open_dataset(voc6_dir, "val")
    crops = object_crops(data)
    assert crops.class_names[-1] == BACKGROUND
    labels = np.array([crop.labels[0] for crop in crops.records])
    counts = np.bincount(labels)
    assert 40 < counts[-1] <= counts[:-1].max()
    by_path = {each.path: each for each in data.records}
    for crop in (crops.records[index] for index in np.flatnonzero(labels == counts.size - 1)):
        picture = by_path[crop.path]
        (left, top, right, bottom) = crop.boxes_xyxy[0].tolist()
        assert left >= 0
        assert top >= 0
        assert right <= picture.size_hw[1] + 1e-3
        assert bottom <= picture.size_hw[0] + 1e-3
        # pixels under any object, counted one by one
        covered = np.zeros(picture.size_hw, bool)
        for x1, y1, x2, y2 in picture.boxes_xyxy.round().astype(int).tolist():
            covered[y1:y2, x1:x2] = True
        seen = covered[round(top) : round(bottom), round(left) : round(right)]
        assert seen.mean() < 0.13  # a tenth, and the rounding
        if len(picture):
            ious = box_iou(torch.tensor(crop.boxes_xyxy), torch.tensor(picture.boxes_xyxy))
            assert float(ious.max()) <= 0.1


def test_background_follows_from_the_seed_and_needs_room() -> None:
    free = [record(number, [(10, 10, 40, 40), (60, 10, 90, 40)]) for number in range(6)]
    full = [record(6, [(0, 0, 200, 100)])]
    data = DetectionDataset((*free, *full), ("a", "b"), Path("d"), "train", "coco")
    crops, again, other = (object_crops(data, seed=seed).records for seed in (3, 3, 4))
    pieces = [crop for crop in crops if crop.labels[0] == 2]
    assert [crop.image_id for crop in pieces] == [f"{number}#{BACKGROUND}" for number in range(6)]
    for ours, theirs in zip(crops, again, strict=True):
        assert np.array_equal(ours.boxes_xyxy, theirs.boxes_xyxy)
    assert not np.array_equal(pieces[0].boxes_xyxy, other[-6].boxes_xyxy)


def test_data_with_a_background_of_its_own_keeps_it() -> None:
    data = DetectionDataset(
        (record(0, [(10, 10, 40, 40)]),), ("a", BACKGROUND), Path("d"), "train", "coco"
    )
    assert object_crops(data).class_names == ("a", BACKGROUND)
    assert len(object_crops(data)) == 1
