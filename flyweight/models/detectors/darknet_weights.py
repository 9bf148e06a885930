"""Darknet's `.weights`: the published YOLOv3 and YOLOv4 into our detectors, and back.

The file has no names and no shapes: a header, then float32 numbers in the order of the layers in
the `.cfg` (`load_weights_upto` in Darknet's parser.c). All is little-endian.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.yolo_config import YOLOConfig
from flyweight.models.heads.yolo import SHARED_COLUMNS
from flyweight.models.layers import ConvNormAct

# The parts of our networks in the order of `yolov3.cfg` and `yolov4.cfg`; within a part,
# convolutions are defined in that order. The heads stand between the parts of the neck.
ORDERS: dict[tuple[str, str], tuple[str, ...]] = {
    ("darknet53", "yolo_fpn"): (
        "backbone",
        *("neck.sets.2", "head.prediction.levels.2"),
        *("neck.reduce.1", "neck.sets.1", "head.prediction.levels.1"),
        *("neck.reduce.0", "neck.sets.0", "head.prediction.levels.0"),
    ),
    ("cspdarknet53", "yolo_pan"): (
        "backbone",
        "neck.spp",
        *("neck.reduce.1", "neck.lateral.1", "neck.sets.1"),
        *("neck.reduce.0", "neck.lateral.0", "neck.sets.0", "head.prediction.levels.0"),
        *("neck.down.0", "neck.fuse.0", "head.prediction.levels.1"),
        *("neck.down.1", "neck.fuse.1", "head.prediction.levels.2"),
    ),
}

VERSION = (0, 2, 5)
# From this version on (major, minor) the number of images seen in training has 8 bytes.
WIDE_SEEN = 2
HEADER = np.dtype([("major", "<i4"), ("minor", "<i4"), ("revision", "<i4")])
NUMBERS = np.dtype("<f4")


@dataclass(frozen=True)
class DarknetLayer:
    """One convolution as the file has it.

    Attributes:
        name: of the convolution in our model.
        tensors: in the order of the file. With BatchNorm: its bias, weight, mean and variance,
            then the convolution's weight `[C_out, C_in, k, k]`; else its bias and its weight.
    """

    name: str
    tensors: tuple[Tensor, ...]

    @property
    def numbers(self) -> int:
        return sum(tensor.numel() for tensor in self.tensors)


def darknet_layers(detector: Detector) -> list[DarknetLayer]:
    """The convolutions of a detector in the order of its cfg; the tensors are its own.

    Raises:
        InputError: there is no cfg of such a network.
    """
    config: Any = detector.config
    order = ORDERS.get((config.backbone, getattr(config, "neck", "")))
    if not isinstance(config, YOLOConfig) or order is None or config.separable:
        raise InputError(
            f"Darknet has no network like {config.name} over {config.backbone}",
            where="model",
            fix="take yolov3_darknet53 or yolov4_cspdarknet53",
        )
    if (
        len(config.anchors) != 3
        or config.folded
        or {config.norm, config.backbone_norm} != {"batch"}
    ):
        raise InputError(
            "Darknet's network has three levels, and a BatchNorm after each convolution but the "
            "last ones",
            where="model",
            fix="take the published levels and norms; load first, fold afterwards",
        )
    return [
        layer
        for part in order
        for layer in _convolutions(detector.model.get_submodule(part), prefix=part)
    ]


def _convolutions(part: nn.Module, *, prefix: str) -> Iterator[DarknetLayer]:
    """The convolutions of a part in the order of definition."""
    brick = isinstance(part, ConvNormAct)
    for name, child in part.named_children():
        path = f"{prefix}.{name}"
        if not isinstance(child, nn.Conv2d):
            yield from _convolutions(child, prefix=path)
            continue
        norm = getattr(part, "norm", None) if brick else None
        if isinstance(norm, nn.BatchNorm2d):
            shift, spread = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
            yield DarknetLayer(path, (norm.bias, norm.weight, shift, spread, child.weight))
        else:
            yield DarknetLayer(path, (cast(Tensor, child.bias), child.weight))


def load_darknet_weights(detector: Detector, path: str | os.PathLike[str]) -> None:
    """Fill a detector with the numbers of a `.weights` file, which must be exactly its own.

    Args:
        detector: `yolov3_darknet53` or `yolov4_cspdarknet53`, with as many classes as the file.
        path: such as `yolov3.weights`.

    Raises:
        InputError: the file is missing, truncated, or of another network; the detector is then
            as it was.
    """
    layers = darknet_layers(detector)
    numbers = _read_numbers(path)
    needed = sum(layer.numbers for layer in layers)
    if len(numbers) != needed:
        raise _wrong_length(detector, layers, len(numbers), where=path)
    position = 0
    with torch.no_grad():
        for layer in layers:
            for tensor in layer.tensors:
                part = numbers[position : position + tensor.numel()]
                tensor.copy_(torch.from_numpy(part.astype(np.float32)).view(tensor.shape))
                position += tensor.numel()


def save_darknet_weights(
    detector: Detector, path: str | os.PathLike[str], *, images_seen: int = 0
) -> None:
    """Write a detector's numbers as Darknet does, whole or not at all.

    Args:
        detector: one that `load_darknet_weights` could fill.
        path: of the `.weights` file; the network belongs to it in a cfg with as many classes.
        images_seen: in training, for Darknet's schedule.

    Raises:
        InputError: there is no cfg of such a network, or the file cannot be written there.
    """
    layers = darknet_layers(detector)
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        file.write(np.array([VERSION], dtype=HEADER).tobytes())
        file.write(np.array([images_seen], dtype="<i8").tobytes())
        for layer in layers:
            for tensor in layer.tensors:
                values = tensor.detach().float().cpu().contiguous().numpy()
                file.write(values.astype(NUMBERS, copy=False).tobytes())


def count_classes(detector: Detector, path: str | os.PathLike[str]) -> int | None:
    """The number of classes with which `detector` would fit the file; None if it is another's."""
    return _classes_of(detector, darknet_layers(detector), len(_read_numbers(path)))


def _read_numbers(path: str | os.PathLike[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Everything after the header, `[N]`; mapped, not read."""
    try:
        size = Path(path).stat().st_size
        header = np.fromfile(path, dtype=HEADER, count=1)
    except OSError as error:
        raise InputError(
            f"cannot read the weights: {(error.strerror or str(error)).lower()}",
            where=path,
            fix="check the path",
        ) from error
    start = HEADER.itemsize
    if len(header):
        start += 8 if 10 * header["major"][0] + header["minor"][0] >= WIDE_SEEN else 4
    if size <= start or (size - start) % NUMBERS.itemsize:
        raise InputError(
            f"not a Darknet .weights file, or truncated: {size} bytes are no header and float32 "
            "numbers",
            where=path,
            fix="fetch it again",
        )
    return np.memmap(path, dtype=NUMBERS, mode="r", offset=start)


def _wrong_length(
    detector: Detector, layers: list[DarknetLayer], found: int, *, where: str | os.PathLike[str]
) -> InputError:
    """The file ends within a layer, or has numbers after the last."""
    needed = sum(layer.numbers for layer in layers)
    classes = _classes_of(detector, layers, found)
    fix = "use the weights of the same network and number of classes"
    if classes is not None:
        fix = (
            f"the length is that of {classes} classes, the detector has "
            f"{detector.config.num_classes}: build it with {classes} and replace them afterwards"
        )
    if found > needed:
        return InputError(
            f"{found - needed} numbers remain after the last layer, {layers[-1].name}: the file "
            f"has {found}, the detector takes {needed}",
            where=where,
            fix=fix,
        )
    position = 0
    for layer in layers:
        if position + layer.numbers > found:
            break
        position += layer.numbers
    return InputError(
        f"the file ends in layer {layer.name}, which takes {layer.numbers} numbers and finds "
        f"{found - position}: the file has {found}, the detector takes {needed}",
        where=where,
        fix=fix,
    )


def _classes_of(detector: Detector, layers: list[DarknetLayer], found: int) -> int | None:
    """The number of classes with which the detector would take `found` numbers, if any."""
    columns = SHARED_COLUMNS + detector.config.num_classes
    heads = sum(layer.numbers for layer in layers if layer.name.endswith(".output"))
    others = sum(layer.numbers for layer in layers) - heads
    wanted, rest = divmod((found - others) * columns, heads)
    classes = wanted - SHARED_COLUMNS
    return classes if rest == 0 and classes >= 1 else None
