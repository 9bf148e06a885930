"""Labelled images as the network sees them, without augmentation: what Taylor importance reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from flyweight.core.boxes import transform_boxes
from flyweight.core.image import read_image
from flyweight.data.records import DetectionDataset, Record
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets

BATCH_SIZE = 4


def labelled_batches(
    detector: Detector,
    dataset: DetectionDataset,
    *,
    images: int = 64,
) -> Iterator[tuple[Tensor, Targets]]:
    """Batches of up to `images` records, spread over `dataset`: uint8 `[B, H, W, 3]` and boxes in
    their pixels. Small batches say more of importance, see `measure_saliencies`."""
    dataset = dataset.remap(detector.class_names)
    count = min(images, len(dataset))
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).round()).astype(int)
    for start in range(0, len(chosen), BATCH_SIZE):
        records = [dataset.records[index] for index in chosen[start : start + BATCH_SIZE]]
        pixels, boxes = zip(*(_as_input(detector, each) for each in records), strict=True)
        labels = [torch.from_numpy(each.labels).long() for each in records]
        yield torch.stack(pixels), Targets.from_lists(boxes, labels)


def _as_input(detector: Detector, record: Record) -> tuple[Tensor, Tensor]:
    """The input `[H, W, 3]` and the boxes `[G, 4]` xyxy in its pixels."""
    # One size for all, also where pictures otherwise keep their shape.
    preprocessing = replace(detector.preprocessing, canvas="fixed")
    pixels, matrix = preprocessing.apply(read_image(record.path))
    boxes = transform_boxes(record.boxes_xyxy.astype(np.float64), matrix)
    return torch.from_numpy(pixels), torch.from_numpy(boxes).float()
