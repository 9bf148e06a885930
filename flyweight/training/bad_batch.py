"""The batch whose loss was no number, kept so that it can be looked at and the step repeated."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise

from flyweight.core.drawing import draw_boxes
from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically
from flyweight.training.batches import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

METADATA_KEY = "flyweight_bad_batch"
GAP = 4
SMALLEST_SIDE = 256


@dataclass(frozen=True)
class BadBatch:
    """What a step was given, and which step it was.

    Attributes:
        batch: as the data pipeline made it, on the CPU.
        epoch: of the step, from 1.
        step: in its epoch, from 1.
        process: which of the run's processes had it.
        loss: what came out, inf or nan.
        file_names: of its images, in their order.
        class_names: of its labels.
    """

    batch: Batch
    epoch: int
    step: int
    process: int
    loss: float
    file_names: tuple[str, ...]
    class_names: tuple[str, ...]


def save_bad_batch(bad: BadBatch, path: str | os.PathLike[str]) -> None:
    """Write tensors `images` uint8 `[B, H, W, 3]`, `boxes_xyxy` float32 `[B, G, 4]` (input pixels),
    `labels` int64 `[B, G]` (-1 padded), `records` int64 `[B]`; the rest is in the header.

    Raises:
        InputError: it cannot be written there.
    """
    header = {
        "epoch": bad.epoch,
        "step": bad.step,
        "process": bad.process,
        "loss": str(bad.loss),  # JSON has no nan
        "file_names": bad.file_names,
        "class_names": bad.class_names,
    }
    tensors = {name: each.contiguous() for name, each in bad.batch._asdict().items()}
    with write_atomically(path) as temporary:
        temporary.write_bytes(serialise(tensors, {METADATA_KEY: json.dumps(header)}))


def load_bad_batch(path: str | os.PathLike[str]) -> BadBatch:
    """Read what `save_bad_batch` wrote; nothing is unpickled.

    Raises:
        InputError: there is no such file, or it is not one.
    """
    if not Path(path).is_file():
        raise InputError("no such file", where=path, fix="check the path")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[METADATA_KEY])
            batch = Batch(**{name: file.get_tensor(name) for name in Batch._fields})
        return BadBatch(
            batch,
            epoch=header["epoch"],
            step=header["step"],
            process=header["process"],
            loss=float(header["loss"]),
            file_names=tuple(header["file_names"]),
            class_names=tuple(header["class_names"]),
        )
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise InputError("this is no batch that a run has kept", where=path) from error


def contact_sheet(bad: BadBatch) -> NDArray[np.uint8]:
    """The batch's pictures with their boxes and classes, RGB uint8 `[H, W, 3]`."""
    images = bad.batch.images.numpy()  # [B, H, W, 3]
    count, height, width, _ = images.shape
    zoom = max(1, SMALLEST_SIDE // max(height, width))
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cell_h, cell_w = height * zoom + GAP, width * zoom + GAP
    sheet = np.full((rows * cell_h - GAP, columns * cell_w - GAP, 3), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * cell_h, place % columns * cell_w
        labels = bad.batch.labels[place].numpy()
        boxes = bad.batch.boxes_xyxy[place].numpy()
        # what is not finite cannot be drawn, and what lies far outside overflows OpenCV's integers
        kept = (labels >= 0) & np.isfinite(boxes).all(axis=1)
        boxes = boxes[kept].clip(-width - height, 2 * (width + height)) * zoom
        texts = [bad.class_names[label] for label in labels[kept].tolist()]
        tile = draw_boxes(image.repeat(zoom, 0).repeat(zoom, 1), boxes, labels[kept], texts)
        sheet[top : top + height * zoom, left : left + width * zoom] = tile
    return sheet
