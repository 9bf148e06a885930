"""AP equals pycocotools', with crowds, difficult objects and empty sides."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from flyweight.core.boxes import box_iou
from flyweight.core.detections import Detections
from flyweight.data.records import DetectionDataset, Record
from flyweight.evaluation.coco_ap import EvaluationResult, average_precision

STATS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR100": 8}


def record(
    number: int,
    boxes: Any,
    labels: Any,
    *,
    crowd: Any = None,
    difficult: Any = None,
    areas: Any = None,
) -> Record:
    count = len(labels)
    return Record(
        image_id=f"image-{number}",
        path=Path(f"{number}.jpg"),
        size_hw=(480, 640),
        boxes_xyxy=np.asarray(boxes, np.float32).reshape(-1, 4),
        labels=np.asarray(labels, np.int64),
        crowd=np.zeros(count, bool) if crowd is None else np.asarray(crowd, bool),
        difficult=np.zeros(count, bool) if difficult is None else np.asarray(difficult, bool),
        areas=None if areas is None else np.asarray(areas, np.float32),
    )


def dataset(records: Sequence[Record], classes: int) -> DetectionDataset:
    return DetectionDataset(
        records=tuple(records),
        class_names=tuple(f"class-{label}" for label in range(classes)),
        root=Path("nowhere"),
        split="test",
        format="coco",
    )


def found(boxes: Any, scores: Any, labels: Any) -> Detections:
    return Detections(
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(scores, np.float32),
        np.asarray(labels, np.int64),
    )


def ap(data: DetectionDataset, detections: Detections) -> float | None:
    """AP of a data set of one image."""
    return average_precision(data, [detections]).AP


def with_pycocotools(data: DetectionDataset, detections: Sequence[Detections]) -> COCOeval:
    """The reference code on the same boxes."""
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": n + 1, "height": 480, "width": 640} for n in range(len(data))],
        "categories": [{"id": n + 1, "name": name} for n, name in enumerate(data.class_names)],
        "annotations": [],
    }
    for n, entry in enumerate(data.records):
        sides = entry.boxes_xyxy[:, 2:].astype(np.float64) - entry.boxes_xyxy[:, :2]
        areas = sides.prod(axis=1) if entry.areas is None else entry.areas
        for box, label, crowd, area in zip(
            entry.boxes_xyxy, entry.labels, entry.crowd, areas, strict=True
        ):
            x1, y1, x2, y2 = (float(value) for value in box)
            truth.dataset["annotations"].append(
                {
                    "id": len(truth.dataset["annotations"]) + 1,
                    "image_id": n + 1,
                    "category_id": int(label) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
    results = [
        {
            "image_id": n + 1,
            "category_id": int(label) + 1,
            "bbox": [*b[:2].tolist(), *(b[2:].astype(np.float64) - b[:2]).tolist()],
            "score": float(score),
        }
        for n, entry in enumerate(detections)
        for b, score, label in zip(entry.boxes_xyxy, entry.scores, entry.labels, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def assert_equal(result: EvaluationResult, reference: COCOeval, class_names: Sequence[str]) -> None:
    for name, position in STATS.items():
        value = getattr(result, name)
        assert (-1.0 if value is None else value) == pytest.approx(
            reference.stats[position], abs=1e-9
        ), name
    precision = reference.eval["precision"][..., 0, 2]  # [T, R, C]
    for label, name in enumerate(class_names):
        if (precision[:, :, label] > -1).any():
            assert result.per_class[name]["AP"] == pytest.approx(precision[:, :, label].mean())
            assert result.per_class[name]["AP50"] == pytest.approx(precision[0, :, label].mean())
            np.testing.assert_allclose(result.curves[name].precision, precision[0, :, label])
        else:
            assert name not in result.per_class


def perturbed(
    entry: Record, classes: int, rng: np.random.Generator, false_alarms: int = 5
) -> Detections:
    """Most objects found with jittered boxes, some as another class, and boxes at random."""
    sides = entry.boxes_xyxy[:, 2:] - entry.boxes_xyxy[:, :2]
    jitter = rng.normal(0, 0.08, entry.boxes_xyxy.shape) * np.tile(sides, 2)
    labels = np.where(
        rng.random(len(sides)) < 0.9, entry.labels, rng.integers(0, classes, len(sides))
    )
    kept = rng.random(len(sides)) < 0.85
    low = rng.uniform(0, 300, (false_alarms, 2))
    extra = np.concatenate([low, low + rng.uniform(4, 200, (false_alarms, 2))], axis=1)
    return found(
        np.concatenate([(entry.boxes_xyxy + jitter)[kept], extra]),
        # two decimals, so that scores tie
        rng.random(int(kept.sum()) + false_alarms).round(2),
        np.concatenate([labels[kept], rng.integers(0, classes, false_alarms)]),
    )


@pytest.mark.parametrize("seed", range(4))
def test_random_data_gives_the_figures_of_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, records = 5, []
    for number in range(30):
        count = int(rng.integers(0, 12))
        low = rng.uniform(0, 380, (count, 2))
        # sides from 4 to 260 pixels, so that all three sizes occur
        boxes = np.concatenate([low, low + np.exp(rng.uniform(1.4, 5.6, (count, 2)))], axis=1)
        # class 4 never has an object
        records.append(
            record(number, boxes, rng.integers(0, 4, count), crowd=rng.random(count) < 0.15)
        )
    data = dataset(records, classes)
    detections = [perturbed(entry, classes, rng) for entry in records]
    result = average_precision(data, detections)
    assert_equal(result, with_pycocotools(data, detections), data.class_names)
    assert result.images == 30
    assert "class-4" not in result.per_class


def test_more_than_a_hundred_detections_of_a_class_are_cut_as_pycocotools_does() -> None:
    rng = np.random.default_rng(7)
    low = rng.uniform(0, 400, (150, 2))
    boxes = np.concatenate([low, low + rng.uniform(20, 40, (150, 2))], axis=1)
    data = dataset([record(0, boxes, np.zeros(150))], 1)
    detections = [found(boxes, rng.random(150), np.zeros(150))]
    result = average_precision(data, detections)
    assert_equal(result, with_pycocotools(data, detections), data.class_names)
    assert result.AR100 is not None
    assert result.AR100 < 0.7


def test_tiny_coco_gives_the_figures_of_pycocotools(tiny_coco_dir: Path) -> None:
    path = tiny_coco_dir / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    labels = {entry["id"]: n for n, entry in enumerate(content["categories"])}
    records = []
    for number, image in enumerate(content["images"]):
        own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        xywh = np.array([a["bbox"] for a in own], np.float64).reshape(-1, 4)
        records.append(
            record(
                number,
                np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
                [labels[a["category_id"]] for a in own],
                crowd=[bool(a.get("iscrowd", 0)) for a in own],
                areas=[a["area"] for a in own],
            )
        )
    data = dataset(records, len(labels))
    rng = np.random.default_rng(0)
    detections = [perturbed(entry, len(labels), rng) for entry in records]
    result = average_precision(data, detections)
    assert_equal(result, with_pycocotools(data, detections), data.class_names)
    assert result.AP is not None
    assert 0.1 < result.AP < 0.9


def test_a_crowd_forgives_what_lies_inside_it() -> None:
    boxes = [[0, 0, 50, 50], [100, 100, 400, 400]]
    data = dataset([record(0, boxes, [0, 0], crowd=[False, True])], 1)
    inside = found(
        [[0, 0, 50, 50], [120, 120, 150, 150], [200, 200, 240, 240]], [0.5, 0.9, 0.8], [0, 0, 0]
    )
    assert ap(data, inside) == pytest.approx(1.0)


def test_a_found_difficult_object_is_neither_hit_nor_miss() -> None:
    boxes = [[0, 0, 50, 50], [100, 100, 400, 400]]
    data = dataset([record(0, boxes, [0, 0], difficult=[False, True])], 1)
    twice = found(
        [[0, 0, 50, 50], [100, 100, 400, 400], [100, 100, 400, 400]], [0.5, 0.9, 0.8], [0, 0, 0]
    )
    assert ap(data, twice) == pytest.approx(1.0)
    missed = found([[0, 0, 50, 50]], [0.5], [0])
    assert ap(data, missed) == pytest.approx(1.0)


def test_a_false_alarm_inside_a_difficult_object_is_a_miss() -> None:
    boxes = [[0, 0, 50, 50], [100, 100, 400, 400]]
    data = dataset([record(0, boxes, [0, 0], difficult=[False, True])], 1)
    inside = found([[0, 0, 50, 50], [120, 120, 150, 150]], [0.5, 0.9], [0, 0])
    assert ap(data, inside) == pytest.approx(0.5)


def voc_average_precision(
    records: Sequence[Record], detections: Sequence[Detections], iou_threshold: float
) -> float:
    """PASCAL VOC's development kit, VOCevaldet.m restated, with COCO's 101 recall points."""
    entries = sorted(
        (
            (float(score), image, box)
            for image, entry in enumerate(detections)
            for score, box in zip(entry.scores, entry.boxes_xyxy, strict=True)
        ),
        key=lambda entry: -entry[0],
    )
    taken = [np.zeros(len(entry.labels), bool) for entry in records]
    hits = []
    for _, image, box in entries:
        truth = records[image]
        overlaps = box_iou(box[None].astype(np.float64), truth.boxes_xyxy.astype(np.float64))[0]
        best = int(overlaps.argmax()) if len(overlaps) else -1
        if best < 0 or overlaps[best] < iou_threshold:
            hits.append(False)
        elif truth.difficult[best]:
            continue
        else:
            hits.append(not taken[image][best])
            taken[image][best] = True
    objects = sum(int((~entry.difficult).sum()) for entry in records)
    hit_count = np.cumsum(hits)
    recall, precision = hit_count / objects, hit_count / np.arange(1, len(hits) + 1)
    points = [
        precision[recall >= point - 1e-12].max(initial=0.0) for point in np.linspace(0, 1, 101)
    ]
    return float(np.mean(points))


@pytest.mark.parametrize("seed", range(4))
def test_difficult_objects_count_as_in_the_voc_development_kit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    records, detections = [], []
    for number in range(12):
        # one object a cell of 100 pixels, so that no box overlaps two
        cells = rng.permutation(16)[: rng.integers(1, 10)]
        low = np.stack([cells % 4, cells // 4], axis=1) * 120.0
        boxes = np.concatenate([low, low + rng.uniform(40, 110, (len(cells), 2))], axis=1)
        difficult = rng.random(len(cells)) < 0.4
        records.append(record(number, boxes, np.zeros(len(cells)), difficult=difficult))
        noisy = np.repeat(boxes, 2, axis=0) + rng.normal(0, 9, (2 * len(cells), 4))
        detections.append(found(noisy, rng.permutation(2 * len(cells)) / 99, np.zeros(len(noisy))))
    data = dataset(records, 1)
    figures = average_precision(data, detections).to_dict()
    for name, iou_threshold in (("AP50", 0.5), ("AP75", 0.75)):
        expected = voc_average_precision(records, detections, iou_threshold)
        assert figures[name] == pytest.approx(expected, abs=1e-9)
        assert 0.01 < expected < 0.99


def test_no_detection_at_all_is_zero() -> None:
    data = dataset([record(0, [[0, 0, 50, 50]], [0]), record(1, [], [])], 2)
    result = average_precision(data, [Detections.empty(), Detections.empty()])
    assert (result.AP, result.AP50, result.AR100) == (0.0, 0.0, 0.0)
    assert result.per_class == {"class-0": {"AP": 0.0, "AP50": 0.0}}
    assert (result.APs, result.APl) == (None, None)
    assert result.images == 2


def test_no_object_at_all_is_none() -> None:
    data = dataset([record(0, [], [])], 2)
    result = average_precision(data, [found([[0, 0, 9, 9]], [0.9], [1])])
    assert result.AP is None
    assert result.per_class == {}
    assert json.loads(json.dumps(result.to_dict()))["AP"] is None


def test_only_difficult_objects_is_none() -> None:
    data = dataset([record(0, [[0, 0, 50, 50]], [0], difficult=[True])], 1)
    result = average_precision(data, [found([[0, 0, 50, 50]], [0.9], [0])])
    assert result.AP is None
    assert result.per_class == {}


def test_a_box_that_is_not_finite_is_a_miss() -> None:
    data = dataset([record(0, [[0, 0, 50, 50]], [0])], 1)
    broken = found([[0, 0, 50, 50], [np.nan, 0, 50, 50]], [0.5, 0.9], [0, 0])
    assert ap(data, broken) == pytest.approx(0.5)
    unscored = found([[0, 0, 50, 50], [0, 0, 50, 50]], [0.5, np.nan], [0, 0])
    assert ap(data, unscored) == pytest.approx(1.0)


def test_size_is_measured_in_pixels_of_the_original() -> None:
    boxes = [[0, 0, 31, 31], [100, 100, 180, 180], [200, 200, 400, 400]]
    data = dataset([record(0, boxes, [0, 0, 0])], 1)
    result = average_precision(data, [found(boxes[:2], [0.9, 0.8], [0, 0])])
    assert (result.APs, result.APm, result.APl) == (1.0, 1.0, 0.0)


def test_another_number_of_detection_lists_is_refused() -> None:
    with pytest.raises(ValueError, match="2 detection lists for 1 images"):
        average_precision(dataset([record(0, [], [])], 1), [Detections.empty()] * 2)


def test_the_best_score_is_where_f1_is_highest() -> None:
    boxes = [[0, 0, 50, 50], [100, 100, 150, 150]]
    data = dataset([record(0, boxes, [0, 0])], 1)
    alarms = [[300, y, 340, y + 40] for y in range(0, 400, 50)]
    detections = found(boxes + alarms, [0.9, 0.6] + [0.3] * len(alarms), [0] * 10)
    curve = average_precision(data, [detections]).curves["class-0"]
    assert curve.best_score() == pytest.approx(0.6)
    assert curve.recall.shape == curve.precision.shape == curve.score.shape == (101,)
