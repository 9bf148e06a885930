"""What all int8 files of one export share: pictures, ranges, and which layers int8 harms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx

from flyweight.compression.mixed_precision import Candidate
from flyweight.compression.onnx_layers import layers_of
from flyweight.compression.quantise_onnx import Ranges, calibrate
from flyweight.compression.sensitivity import find_sensitive
from flyweight.core.image import read_image
from flyweight.core.preprocessing import Preprocessing
from flyweight.data.records import DetectionDataset

CALIBRATION_IMAGES = 200
SENSITIVITY_IMAGES = 4

Say = Callable[[str], None]


class Calibration:
    """Of one graph on one data set; each part is made when it is first asked for.

    Args:
        graph: in fp32.
        pictures: those of training.
        preprocessing: from a picture to the graph's input.
        known: ranges that the network was trained with, in place of those of the pictures.
        say: called with a line about what is being done.
    """

    def __init__(
        self,
        graph: onnx.ModelProto,
        pictures: DetectionDataset,
        *,
        preprocessing: Preprocessing,
        known: Ranges | None = None,
        say: Say,
    ) -> None:
        self.graph = graph
        self.pictures = pictures
        self.preprocessing = preprocessing
        self.known = known
        self.say = say

    @cached_property
    def ranges(self) -> Ranges:
        """Of every tensor around a convolution."""
        if self.known is not None:
            return self.known
        self.say("calibrating")
        return calibrate(self.graph, self.batches())

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Every convolution with what int8 does there and what it saves."""
        self.say("looking for the convolutions that int8 harms")
        macs = {layer.node: layer.macs for layer in layers_of(self.graph)}
        found = find_sensitive(self.graph, self.ranges, self.batches(SENSITIVITY_IMAGES))
        return [Candidate(each.node, each.total, macs.get(each.node, 0)) for each in found]

    def batches(self, count: int = CALIBRATION_IMAGES) -> Iterator[npt.NDArray[np.uint8]]:
        """uint8 `[1, h, w, 3]` each."""
        for image in read_inputs(self.preprocessing, self.pictures, count):
            yield image[None]


def read_inputs(
    preprocessing: Preprocessing, dataset: DetectionDataset, count: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """Up to `count` pictures of `dataset`, spread over it, as inputs uint8 `[h, w, 3]`."""
    for index in spread(len(dataset), count):
        image = read_image(dataset.records[index].path, min_size_hw=preprocessing.size_hw)
        yield preprocessing.apply(image)[0]


def spread(length: int, count: int) -> npt.NDArray[np.int64]:
    """Up to `count` indices below `length`, in even steps."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).round()).astype(np.int64)
