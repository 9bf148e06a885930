"""A training sample from its files to the network's input: each picture is resampled once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from flyweight.core.image import read_image
from flyweight.core.preprocessing import Preprocessing, resize_image
from flyweight.transforms.composition import Composition, Material, Whole
from flyweight.transforms.geometry import GeometricStep
from flyweight.transforms.layers import paint
from flyweight.transforms.photometric import Distortion
from flyweight.transforms.pictures import Picture, Pictures, ReadImage
from flyweight.transforms.sampling import ResizeImage
from flyweight.transforms.visible_boxes import visible_boxes

Image = npt.NDArray[np.uint8]
Sample = tuple[Image, npt.NDArray[np.float32], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class TrainTransform:
    """Draws geometric parameters, multiplies them into one matrix a picture, samples, distorts.

    Attributes:
        preprocessing: the network's input size and how a canvas is resized to it.
        steps: geometric steps of a whole picture, in order; the resize of `preprocessing` follows.
        distortion: photometric distortion, or None; drawn for each picture by itself.
        min_side: boxes with a shorter side in the input are dropped, pixels.
        decode_factor: a JPEG is decoded at a reduced scale only while it keeps this many pixels
            for each pixel of the output, along each axis. 1 loses no detail; 2 is what
            evaluation reads.
        composition: the whole picture alone, or several.
        min_visible: boxes that show less of their area than this share are dropped.
        read: reads picture files; a cache may stand in.
        resize: resamples what is seen of a picture, by default as evaluation does.
    """

    preprocessing: Preprocessing
    steps: Sequence[GeometricStep] = ()
    distortion: Distortion | None = None
    min_side: float = 1.0
    decode_factor: float = 1.0
    composition: Composition = field(default_factory=Whole)
    min_visible: float = 0.0
    read: ReadImage = read_image
    resize: ResizeImage = resize_image

    def __call__(
        self,
        picture: str | os.PathLike[str] | Image,
        boxes_xyxy: npt.NDArray[np.floating],
        labels: npt.NDArray[np.integer],
        *,
        size_hw: tuple[int, int],
        rng: np.random.Generator,
        others: Pictures | None = None,
    ) -> Sample:
        """Transform one labelled picture; the same state of `rng` gives the same bytes.

        Args:
            picture: file, or RGB uint8 `[H, W, 3]`.
            boxes_xyxy: `[G, 4]` in pixels of the picture.
            labels: `[G]`.
            size_hw: of the picture as annotated.
            rng: where all random parameters come from.
            others: pictures that a composition of several may draw from; without them the picture
                stands for all.

        Returns:
            RGB uint8 `[h, w, 3]` of the input size (of the picture's own canvas where the
            preprocessing has that of a batch), boxes `xyxy [G', 4]` float32 in its pixels,
            and their labels `[G']` int64.
        """
        first = Picture(picture, boxes_xyxy, labels, size_hw)
        layers = self.composition(
            Material(
                first, others or (first,), self.preprocessing, self.steps, self.distortion, rng
            )
        )
        image, matrices = paint(
            layers,
            read=self.read,
            pad_value=self.preprocessing.pad_value,
            decode_factor=self.decode_factor,
            resize=self.resize,
        )
        boxes, kept_labels = visible_boxes(
            layers, matrices, min_side=self.min_side, min_visible=self.min_visible
        )
        return image, boxes, kept_labels

    def alone(self) -> TrainTransform:
        """The same without other pictures and without erasing, for the last epochs of a run.

        YOLOX (Ge et al. 2021, arXiv 2107.08430, section 2.1, "Strong data augmentation") trains
        its last 15 epochs without Mosaic and MixUp: such samples are unlike real pictures.
        """
        return replace(self, composition=Whole())
