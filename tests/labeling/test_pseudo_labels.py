"""The COCO file, read by COCO's own tools and by our loader."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO

from flyweight.core.image import write_image
from flyweight.data.formats import open_dataset
from flyweight.labeling.pseudo_labels import sort_out, write_coco
from flyweight.labeling.shards import LabelledImage, unread
from flyweight.labeling.thresholds import ClassThreshold
from flyweight.labeling.weighted_box_fusion import FusedBoxes
from tests.labeling.plain_detections import detections_of


def threshold(name: str, upper: float, lower: float) -> ClassThreshold:
    return ClassThreshold(name, upper, lower, 10, 10, 1.0, 1.0, False)


THRESHOLDS = (threshold("cup", 0.5, 0.25), threshold("pen", math.inf, 0.75))


def fused(*boxes: tuple[float, int, list[int]]) -> FusedBoxes:
    """Boxes of (score, label, sources of four), side by side, best first."""
    corners = np.array([[10.5 * n, 4, 10.5 * n + 8.25, 16] for n in range(len(boxes))])
    found_by = np.zeros((len(boxes), 4), bool)
    for row, (_, _, sources) in zip(found_by, boxes, strict=True):
        row[sources] = True
    found = detections_of(
        corners.reshape(-1, 4), [score for score, _, _ in boxes], [label for _, label, _ in boxes]
    )
    return FusedBoxes(found, found_by)


PICTURES = (
    LabelledImage("a.png", (40, 60), fused((0.75, 1, [0, 2]), (0.5, 0, [3]), (0.375, 0, [0, 1]))),
    unread("gone.png", "the picture does not exist"),
    LabelledImage("sub/b.png", (30, 50), fused((0.7, 1, [0]), (0.2, 0, [0]))),
)


def write(folder: Path) -> Path:
    for picture in PICTURES:
        if picture.problem is None:
            path = folder / "images" / "train" / picture.name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, np.zeros((*picture.size_hw, 3), np.uint8))
    path = folder / "annotations" / "instances_train.json"
    counts = write_coco(
        path,
        lambda: PICTURES,
        THRESHOLDS,
        lambda found_by: np.asarray(found_by.reshape(-1, 2, 2).any(axis=2)),
        teachers=["A", "B"],
        info={"thresholds": 2},
    )
    assert (counts.images, counts.empty) == (2, 1)
    assert counts.missing == [{"name": "gone.png", "reason": "the picture does not exist"}]
    assert counts.objects.tolist() == [1, 0]
    assert counts.uncertain.tolist() == [1, 1]
    return path


def test_kept_uncertain_dropped() -> None:
    kept, uncertain = sort_out(PICTURES[0].boxes, THRESHOLDS)
    assert kept.tolist() == [False, True, False]
    assert uncertain.tolist() == [True, False, True]
    kept, uncertain = sort_out(PICTURES[2].boxes, THRESHOLDS)
    assert not kept.any()
    assert not uncertain.any()


def test_cocos_own_tools_read_it(tmp_path: Path) -> None:
    path = write(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    assert [each["name"] for each in coco.loadCats(coco.getCatIds())] == ["cup", "pen"]
    assert len(coco.getImgIds()) == 2
    crowds = coco.loadAnns(coco.getAnnIds(iscrowd=True))
    assert [each["uncertain"] for each in crowds] == [1, 1]
    [label] = coco.loadAnns(coco.getAnnIds(iscrowd=False))
    assert label == {
        "id": 2, "image_id": 1, "category_id": 1, "bbox": [10.5, 4.0, 8.25, 12.0], "area": 99.0,
        "iscrowd": 0, "score": 0.5, "votes": 1, "teachers": ["B"],
    }  # fmt: skip
    assert crowds[0]["teachers"] == ["A", "B"]
    assert crowds[0]["votes"] == 2


def test_our_loader_reads_it(tmp_path: Path) -> None:
    write(tmp_path)
    dataset = open_dataset(tmp_path, "train")
    assert dataset.class_names == ("cup", "pen")
    first, second = dataset.records
    assert first.size_hw == (40, 60)
    assert first.labels.tolist() == [1, 0, 0]
    assert first.crowd.tolist() == [True, False, True]
    np.testing.assert_allclose(first.boxes_xyxy[1], [10.5, 4, 18.75, 16])
    assert second.path.name == "b.png"
    assert len(second) == 0


def test_it_is_json_as_a_whole(tmp_path: Path) -> None:
    content = json.loads(write(tmp_path).read_text(encoding="utf-8"))
    assert set(content) == {"info", "categories", "images", "annotations"}
    assert content["info"] == {"thresholds": 2}
