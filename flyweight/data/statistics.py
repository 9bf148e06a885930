"""Figures of a data set: colours of its pixels, counts of its classes, sizes of its objects."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.core.errors import InputError
from flyweight.core.image import read_image
from flyweight.data.records import DetectionDataset, Record

# COCO's limits of small, medium and large objects, in square pixels of the original image.
COCO_AREAS = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}
QUANTILES = {
    "min": 0.0,
    "p5": 0.05,
    "p25": 0.25,
    "median": 0.5,
    "p75": 0.75,
    "p95": 0.95,
    "max": 1.0,
}

Triple = tuple[float, float, float]


def channel_statistics(
    dataset: DetectionDataset, *, progress: Callable[[int], None] | None = None
) -> tuple[Triple, Triple]:
    """Mean and standard deviation of each channel over every pixel, RGB, in 0..1.

    Images are read one after another in a few threads and weigh by their number of pixels; the
    result is the population deviation, exact up to rounding of float64. ``progress`` is told how
    many images are done.
    """
    if len(dataset) == 0:
        raise InputError("the data set is empty", where=str(dataset.root), fix="add images")
    count = 0.0
    mean = np.zeros(3)
    squares = np.zeros(3)
    paths = [record.path for record in dataset.records]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done, (pixels, image_mean, image_squares) in enumerate(pool.map(_moments, paths), 1):
            # Chan, Golub and LeVeque 1979: merging moments keeps digits that sums of squares lose.
            total = count + pixels
            delta = image_mean - mean
            squares += image_squares + delta**2 * (count * pixels / total)
            mean += delta * (pixels / total)
            count = total
            if progress is not None:
                progress(done)
    deviation = np.sqrt(squares / count)
    return _triple(mean), _triple(deviation)


def _moments(
    path: Path,
) -> tuple[float, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Pixels, mean ``[3]`` and summed squared deviation ``[3]`` of an image, RGB in 0..1."""
    image = read_image(path)
    pixels = float(image.shape[0] * image.shape[1])
    mean, deviation = cv2.meanStdDev(image)
    return pixels, mean[:, 0] / 255, pixels * (deviation[:, 0] / 255) ** 2


def _triple(values: npt.NDArray[np.float64]) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])


def dataset_statistics(dataset: DetectionDataset) -> dict[str, Any]:
    """Counts and sizes, as plain numbers ready for JSON.

    Object sizes: COCO's classes by area in pixels of the original image, the side
    ``sqrt(w * h)`` relative to that of the image, and width over height. Crowd regions are counted
    apart and take no part in sizes.
    """
    records = dataset.records
    labels = _joined([r.labels[~r.crowd] for r in records], np.int64)
    wh = _joined([_sides(r)[~r.crowd] for r in records], np.float64).reshape(-1, 2)
    image_wh = _joined(
        [np.tile(r.size_hw[::-1], (int((~r.crowd).sum()), 1)) for r in records], np.float64
    ).reshape(-1, 2)
    areas = _joined([_areas(r)[~r.crowd] for r in records], np.float64)
    whole = (wh > 0).all(axis=1) & (image_wh > 0).all(axis=1)
    relative = np.sqrt((wh[whole] / image_wh[whole]).prod(axis=1))
    per_image = np.array([int((~r.crowd).sum()) for r in records])
    return {
        "images": len(records),
        "images_without_objects": int((per_image == 0).sum()),
        "objects": len(labels),
        "crowd_regions": int(sum(int(r.crowd.sum()) for r in records)),
        "difficult_objects": int(sum(int(r.difficult.sum()) for r in records)),
        "classes": _class_counts(dataset),
        "objects_per_image": _quantiles(per_image),
        "image_sizes_hw": _image_sizes(records),
        "object_areas": {
            name: int(((areas >= low) & (areas < high)).sum())
            for name, (low, high) in COCO_AREAS.items()
        },
        "relative_side": _quantiles(relative),
        "aspect_ratio": _quantiles(wh[whole, 0] / wh[whole, 1]),
    }


def _class_counts(dataset: DetectionDataset) -> dict[str, dict[str, int]]:
    """Objects (without crowds) and images of each class."""
    size = len(dataset.class_names)
    objects = np.zeros(size, np.int64)
    images = np.zeros(size, np.int64)
    for record in dataset.records:
        labels = record.labels[~record.crowd]
        counts = np.bincount(labels[(labels >= 0) & (labels < size)], minlength=size)
        objects += counts
        images += counts > 0
    return {
        name: {"objects": int(objects[k]), "images": int(images[k])}
        for k, name in enumerate(dataset.class_names)
    }


def _image_sizes(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The ten most frequent sizes."""
    counts = Counter(record.size_hw for record in records)
    return [{"size_hw": list(size), "images": n} for size, n in counts.most_common(10)]


def _quantiles(values: npt.NDArray[Any]) -> dict[str, float]:
    if len(values) == 0:
        return {}
    figures = {name: float(np.quantile(values, q)) for name, q in QUANTILES.items()}
    return figures | {"mean": float(values.mean())}


def _sides(record: Record) -> npt.NDArray[np.float64]:
    """Width and height ``[G, 2]`` in pixels."""
    boxes = record.boxes_xyxy.astype(np.float64)
    return np.asarray(boxes[:, 2:] - boxes[:, :2])


def _areas(record: Record) -> npt.NDArray[np.float64]:
    """Areas ``[G]`` in square pixels: the object's own where the format tells, else the box's."""
    if record.areas is not None:
        return np.asarray(record.areas, np.float64)
    return np.asarray(_sides(record).clip(0).prod(axis=1))


def _joined(parts: list[npt.NDArray[Any]], kind: type[np.generic]) -> npt.NDArray[Any]:
    return (
        np.concatenate([np.zeros((0, *parts[0].shape[1:])), *parts]).astype(kind)
        if parts
        else np.zeros(0, kind)
    )
