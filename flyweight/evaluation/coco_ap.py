"""COCO average precision, counted by faster-coco-eval (the figures of pycocotools, faster).

The protocol is that of Lin et al., "Microsoft COCO: Common Objects in Context" (ECCV 2014) and its
reference code: AP is the mean over IoU thresholds 0.50:0.05:0.95 of the 101-point interpolated
precision, over at most 100 detections an image, averaged over the classes that have objects.

- crowd: a detection that lies inside a crowd region (intersection over the *detection's* area) is
  neither hit nor miss, any number of them.
- difficult: as in Everingham et al., "The PASCAL VOC Challenge" (IJCV 2010): a detection whose
  ordinary IoU with a difficult object passes the threshold is neither hit nor miss, and the object
  does not count as missed.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flyweight.evaluation.precision_recall import PrecisionRecall

if TYPE_CHECKING:
    from flyweight.core.detections import Detections
    from flyweight.data.records import DetectionDataset, Record

MAX_DETECTIONS_PER_IMAGE = 100
SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class EvaluationResult:
    """Average precision of one set of detections on one data set; all figures in 0..1.

    A figure is None where there is nothing to count: no object of that size, or no object at all.

    Attributes:
        AP: mean over IoU 0.50:0.95; AP50 and AP75 at one IoU.
        APs, APm, APl: AP of objects below 32², 32² to 96² and above 96² pixels of the original
            image, by the area that the annotation gives or else the box's.
        AR100: mean recall over IoU 0.50:0.95 with at most 100 detections an image.
        per_class: {"AP", "AP50"} by class name; classes without objects are left out.
        images: how many images were counted.
        curves: precision over recall at IoU 0.5 by class name, for the report.
    """

    AP: float | None
    AP50: float | None
    AP75: float | None
    APs: float | None
    APm: float | None
    APl: float | None
    AR100: float | None
    per_class: dict[str, dict[str, float]]
    images: int
    curves: dict[str, PrecisionRecall] = field(default_factory=dict, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON values, without the curves."""
        return {
            "AP": self.AP,
            "AP50": self.AP50,
            "AP75": self.AP75,
            "APs": self.APs,
            "APm": self.APm,
            "APl": self.APl,
            "AR100": self.AR100,
            "per_class": {name: dict(figures) for name, figures in self.per_class.items()},
            "images": self.images,
        }


def average_precision(
    dataset: DetectionDataset, detections: Sequence[Detections]
) -> EvaluationResult:
    """COCO AP of `detections`, one entry a record of `dataset`, in the same order.

    Boxes of both are float32 xyxy `[N, 4]` in pixels of the original image; labels of both index
    `dataset.class_names`.
    """
    if len(detections) != len(dataset):
        raise ValueError(
            f"{len(detections)} detection lists for {len(dataset)} images: one each is needed"
        )
    class_names = dataset.class_names
    records = dataset.records
    if not records or not any(len(record.labels) for record in records):
        return EvaluationResult(
            AP=None, AP50=None, AP75=None, APs=None, APm=None, APl=None, AR100=None,
            per_class={}, images=len(records),
        )  # fmt: skip
    counted = _count(records, detections, num_classes=len(class_names))
    # T IoU thresholds, R recall points, C classes, A areas (all, small, medium, large),
    # M maximum detections (1, 10, 100); -1 where a class has no object of that area
    precision = np.asarray(counted["precision"])[..., -1]  # [T, R, C, A]
    recall = np.asarray(counted["recall"])[..., -1]  # [T, C, A]
    scores = np.asarray(counted["scores"])[..., -1]  # [T, R, C, A]
    per_class: dict[str, dict[str, float]] = {}
    curves: dict[str, PrecisionRecall] = {}
    for label, name in enumerate(class_names):
        ap = _mean(precision[:, :, label, 0])
        ap50 = _mean(precision[0, :, label, 0])
        if ap is None or ap50 is None:
            continue
        per_class[name] = {"AP": ap, "AP50": ap50}
        curves[name] = PrecisionRecall(
            recall=np.linspace(0.0, 1.0, precision.shape[1]),
            precision=precision[0, :, label, 0].copy(),
            score=scores[0, :, label, 0].copy(),
        )
    by_size = {size: _mean(precision[..., i + 1]) for i, size in enumerate(SIZES)}
    return EvaluationResult(
        AP=_mean(precision[..., 0]),
        AP50=_mean(precision[0, ..., 0]),
        AP75=_mean(precision[5, ..., 0]),
        APs=by_size["small"],
        APm=by_size["medium"],
        APl=by_size["large"],
        AR100=_mean(recall[..., 0]),
        per_class=per_class,
        images=len(records),
        curves=curves,
    )


def _mean(values: np.ndarray) -> float | None:
    """Mean of the entries that were counted; COCO marks the others with -1."""
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else None


def _count(
    records: Sequence[Record], detections: Sequence[Detections], *, num_classes: int
) -> dict[str, Any]:
    """faster-coco-eval's accumulated tables ("precision", "recall", "scores")."""
    # Imported here: `import flyweight` and the predictor need no evaluator.
    from flyweight.evaluation.box_evaluator import BoxEvaluator

    with _collector_paused():
        evaluator = BoxEvaluator(
            _annotations(records),
            _results(detections),
            image_ids=range(1, len(records) + 1),
            category_ids=range(1, num_classes + 1),
            max_detections=MAX_DETECTIONS_PER_IMAGE,
        )
        evaluator.evaluate()
        return evaluator.eval


@contextmanager
def _collector_paused() -> Iterator[None]:
    """No garbage collection inside: it would walk a million live dicts again and again.

    A quarter of the time of a large evaluation, measured on 5,000 images with 100 detections.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _annotations(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Ground truth as COCO annotations; ids from 1, because 0 reads as "not matched"."""
    annotations: list[dict[str, Any]] = []
    for image_id, record in enumerate(records, start=1):
        xywh, areas = xywh_and_areas(record.boxes_xyxy)
        if record.areas is not None:
            areas = np.asarray(record.areas, dtype=np.float64)
        crowd = np.asarray(record.crowd, dtype=bool)
        difficult = np.asarray(record.difficult, dtype=bool)
        for box, area, label, in_crowd, is_difficult in zip(
            xywh.tolist(),
            areas.tolist(),
            record.labels.tolist(),
            crowd.tolist(),
            difficult.tolist(),
            strict=True,
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": area,
                    # iscrowd is what COCO's code ignores by; `crowd` decides how IoU is taken
                    "iscrowd": int(in_crowd or is_difficult),
                    "ignore": int(in_crowd or is_difficult),
                    "crowd": int(in_crowd),
                }
            )
    return annotations


def _results(detections: Sequence[Detections]) -> list[dict[str, Any]]:
    """Detections as COCO results."""
    results: list[dict[str, Any]] = []
    for image_id, found in enumerate(detections, start=1):
        xywh, areas = xywh_and_areas(found.boxes_xyxy)
        kept = np.isfinite(np.asarray(found.scores))
        for box, area, label, score in zip(
            xywh[kept].tolist(),
            areas[kept].tolist(),
            np.asarray(found.labels)[kept].tolist(),
            np.asarray(found.scores, dtype=np.float64)[kept].tolist(),
            strict=True,
        ):
            results.append(
                {
                    "id": len(results) + 1,
                    "image_id": image_id,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": area,
                    "score": score,
                }
            )
    return results


def xywh_and_areas(boxes_xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float64 `[N, 4]` xywh and `[N]` areas of float32 xyxy boxes, in pixels.

    A box that is not finite becomes an empty one: it can hit nothing and counts as a miss.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    boxes = np.where(np.isfinite(boxes).all(axis=1, keepdims=True), boxes, 0.0)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes, boxes[:, 2] * boxes[:, 3]
