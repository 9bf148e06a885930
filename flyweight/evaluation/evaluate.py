"""Run any predictor over a data set and count its AP."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flyweight.core.detections import Detections, Predictor
from flyweight.core.errors import InputError
from flyweight.core.image import read_image, read_image_scaled
from flyweight.evaluation.coco_ap import EvaluationResult, average_precision

if TYPE_CHECKING:
    from flyweight.data.records import DetectionDataset, Record

Progress = Callable[[int, int], None]
Image = npt.NDArray[np.uint8]
Scale = tuple[float, float]
Labels = npt.NDArray[np.int64]
READERS = 2
BATCHES_AHEAD = 2


def evaluate(
    predictor: Predictor,
    dataset: DetectionDataset,
    *,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> EvaluationResult:
    """COCO AP of `predictor` on `dataset`; `progress` is called with (images done, images).

    Raises:
        InputError: the predictor does not know every class of the data, or an image cannot be
            read.
    """
    found = detect(predictor, dataset, batch_size=batch_size, progress=progress)
    return average_precision(dataset, found)


def detect(
    predictor: Predictor,
    dataset: DetectionDataset,
    *,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> list[Detections]:
    """Detections of every record of `dataset`, in its order.

    Boxes are float32 xyxy in pixels of the original image; labels index `dataset.class_names`.
    Detections of classes that the data does not have are left out, since nobody labelled them.
    """
    to_dataset = label_map(predictor.class_names, dataset.class_names)
    min_size_hw = _decode_size_hw(predictor)
    results: list[Detections] = []
    for images, scales in _read_batches(dataset.records, batch_size, min_size_hw):
        for found, scale in zip(predictor.predict_batch(images), scales, strict=True):
            results.append(_to_original(found, scale, to_dataset))
        if progress is not None:
            progress(len(results), len(dataset))
    return results


def label_map(predictor_classes: Sequence[str], data_classes: Sequence[str]) -> Labels:
    """`[C]` the data's label of each of the predictor's labels, -1 where the data has none.

    Raises:
        InputError: the data has classes that the predictor does not know.
    """
    missing = [name for name in data_classes if name not in predictor_classes]
    if missing:
        known = sorted(set(predictor_classes) - set(data_classes))
        what = f"checkpoint of other classes: the data has {_listed(missing)}, which it cannot find"
        if known:
            what += f"; it finds {_listed(known)}"
        raise InputError(what, fix="use a model trained on this data, or rename the classes")
    numbers = {name: label for label, name in enumerate(data_classes)}
    return np.array([numbers.get(name, -1) for name in predictor_classes], dtype=np.int64)


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _decode_size_hw(predictor: Predictor) -> tuple[int, int] | None:
    """What the predictor needs of a picture, when it says it: larger files are decoded smaller."""
    preprocessing = getattr(predictor, "preprocessing", None)
    return None if preprocessing is None else preprocessing.decode_size_hw


def _read_batches(
    records: Sequence[Record], batch_size: int, min_size_hw: tuple[int, int] | None
) -> Iterator[tuple[list[Image], list[Scale]]]:
    """Batches of images with their scale to the original, read ahead while the network works."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="read-images") as pool:
        pending: deque[list[Future[tuple[Image, Scale]]]] = deque()
        starts = iter(range(0, len(records), batch_size))

        def submit() -> None:
            start = next(starts, None)
            if start is not None:
                batch = records[start : start + batch_size]
                pending.append([pool.submit(_read, record, min_size_hw) for record in batch])

        for _ in range(BATCHES_AHEAD):
            submit()
        try:
            while pending:
                read = [future.result() for future in pending.popleft()]
                submit()
                yield [image for image, _ in read], [scale for _, scale in read]
        finally:
            # after an error or an abandoned loop, do not read what nobody will look at
            pool.shutdown(wait=True, cancel_futures=True)


def _read(record: Record, min_size_hw: tuple[int, int] | None) -> tuple[Image, Scale]:
    """An image and the factors (x, y) from its pixels to those of the original."""
    if min_size_hw is None:
        return read_image(record.path), (1.0, 1.0)
    image, _, _ = read_image_scaled(record.path, min_size_hw)
    height, width = record.size_hw
    return image, (width / image.shape[1], height / image.shape[0])


def _to_original(found: Detections, scale: Scale, to_dataset: Labels) -> Detections:
    """Boxes (float32 xyxy `[N, 4]`) in pixels of the original, labels of the data set."""
    labels = to_dataset[found.labels]
    kept = labels >= 0
    factors = np.array([*scale, *scale], dtype=np.float32)
    return replace(
        found,
        boxes_xyxy=found.boxes_xyxy[kept] * factors,
        scores=found.scores[kept],
        labels=labels[kept],
    )
