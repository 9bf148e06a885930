"""What a sample is made of: pictures and patches, painted in order; each resampled once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.core.preprocessing import resize_image
from flyweight.transforms.geometry import Colour, Matrix, View, scaling
from flyweight.transforms.photometric import ColourChange
from flyweight.transforms.pictures import Picture, ReadImage
from flyweight.transforms.sampling import (
    Placement,
    Rectangle,
    ResizeImage,
    Warp,
    place,
    warp,
)

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Layer:
    """A picture on its way to a part of the output.

    Attributes:
        picture: whose pixels are painted.
        view: the picture's matrix to the output, its boxes, and the output's size.
        window: part of the output that the picture and what fills its canvas may cover, whole
            pixels; not empty.
        colours: change of the picture's colours, or None.
        opacity: its share of the blend with all layers before; 1 covers them.
        detail: share of the pixels it could show along each axis that are read at least, from
            files that can be read at a reduced scale.
    """

    picture: Picture
    view: View
    window: Rectangle
    colours: ColourChange | None = None
    opacity: float = 1.0
    detail: float = 1.0

    @property
    def size_hw(self) -> tuple[int, int]:
        """The size of the output that this layer needs."""
        return self.view.size_hw


@dataclass(frozen=True, eq=False)
class Patch:
    """A rectangle that hides what was painted before.

    Attributes:
        window: part of the output, whole pixels; not empty.
        pixels: RGB uint8 `[h, w, 3]`, or anything that broadcasts to it.
        size_hw: of the output.
    """

    window: Rectangle
    pixels: Image
    size_hw: tuple[int, int]


Layers = Sequence[Layer | Patch]


def output_size_hw(layers: Layers) -> tuple[int, int]:
    """The smallest output that all `layers` fit on."""
    heights, widths = zip(*(layer.size_hw for layer in layers), strict=True)
    return max(heights), max(widths)


def paint(
    layers: Layers,
    *,
    read: ReadImage,
    pad_value: int,
    decode_factor: float,
    resize: ResizeImage = resize_image,
) -> tuple[Image, list[Matrix]]:
    """Read, resample and colour the pictures of `layers`, one over the other.

    Args:
        read: reads those that are files.
        pad_value: grey of the output where no layer is.
        decode_factor: pixels read for each pixel of the output along each axis, at least.
        resize: resamples the part that is seen of a picture.

    Returns:
        RGB uint8 `[H, W, 3]`; and `[3, 3]` for each `Layer` among `layers`, in their order: the
        matrix by which its pixels went from the picture to the output, whole pixels included.
    """
    size_hw = output_size_hw(layers)
    output: Image | None = None
    matrices = []
    for layer in layers:
        if isinstance(layer, Patch):
            if output is None:
                output = _blank(size_hw, pad_value)
            _part(output, layer.window)[:] = layer.pixels
            continue
        picture = _read(layer, read, decode_factor)
        sampling, matrix = _sampling(layer, picture)
        matrices.append(matrix)
        if output is None and isinstance(sampling, Placement) and _covers(sampling, size_hw):
            output = _sample(layer, picture, sampling, resize)
            continue
        sheet = output if output is not None and layer.opacity == 1 else _blank(size_hw, pad_value)
        _fill_around(sheet, layer, sampling, pad_value)
        if sampling is not None:
            _paste(sheet, _sample(layer, picture, sampling, resize), sampling, picture)
        if output is None or layer.opacity == 1:
            output = sheet
        else:
            blend = cv2.addWeighted(output, 1 - layer.opacity, sheet, layer.opacity, 0)
            output = np.asarray(blend, dtype=np.uint8)
    return _blank(size_hw, pad_value) if output is None else output, matrices


def _read(layer: Layer, read: ReadImage, decode_factor: float) -> Image:
    """RGB uint8 `[H, W, 3]`, at a reduced scale where the layer shrinks it that much anyway."""
    source = layer.picture.source
    if isinstance(source, np.ndarray):
        return source
    height, width = layer.picture.size_hw
    (m00, m01), (m10, m11) = layer.view.matrix[:2, :2].tolist()
    # `read` keeps twice what it is asked for.
    share = decode_factor * layer.detail / 2
    needed_hw = (
        max(1, math.ceil(math.hypot(m01, m11) * height * share)),
        max(1, math.ceil(math.hypot(m00, m10) * width * share)),
    )
    return read(source, min_size_hw=needed_hw)


def _sampling(layer: Layer, picture: Image) -> tuple[Placement | Warp | None, Matrix]:
    """How the pixels of `picture` go to the layer's window, and the annotated picture's matrix."""
    matrix, size_hw = layer.view.matrix, picture.shape[:2]
    method = warp if matrix[0, 1] or matrix[1, 0] else place
    if size_hw == layer.picture.size_hw:
        sampling = method(matrix, size_hw, layer.window)
        return sampling, matrix if sampling is None else sampling.matrix
    # A file decoded at a half has half the pixels under the same continuous coordinates.
    scale_y = size_hw[0] / layer.picture.size_hw[0]
    scale_x = size_hw[1] / layer.picture.size_hw[1]
    sampling = method(matrix @ scaling(1 / scale_x, 1 / scale_y), size_hw, layer.window)
    if sampling is None:
        return None, matrix
    return sampling, sampling.matrix @ scaling(scale_x, scale_y)


def _covers(sampling: Placement, size_hw: tuple[int, int]) -> bool:
    return sampling.target_xyxy == (0, 0, size_hw[1], size_hw[0])


def _sample(layer: Layer, picture: Image, sampling: Placement | Warp, resize: ResizeImage) -> Image:
    part = sampling.sample(picture, resize)
    return part if layer.colours is None else layer.colours.apply(part)


def _fill_around(
    output: Image, layer: Layer, sampling: Placement | Warp | None, pad_value: int
) -> None:
    """Paint the canvas of `layer` into `output [H, W, 3]` where its picture will not cover it."""
    if isinstance(sampling, Placement) and sampling.target_xyxy == layer.window:
        return
    fill = (pad_value,) * 3 if layer.view.fill is None else layer.view.fill
    _fill(_part(output, layer.window), fill)


def _paste(output: Image, part: Image, sampling: Placement | Warp, picture: Image) -> None:
    """Paint `part [h, w, 3]`, which was sampled from `picture`, into `output [H, W, 3]`."""
    target = _part(output, sampling.target_xyxy)
    if isinstance(sampling, Placement):
        target[:] = part
    else:
        inside = sampling.mask((picture.shape[0], picture.shape[1]))
        np.copyto(target, part, where=inside[..., None] > 0)


def _blank(size_hw: tuple[int, int], level: int) -> Image:
    return np.full((*size_hw, 3), level, dtype=np.uint8)


def _part(image: Image, rectangle: Rectangle) -> Image:
    left, top, right, bottom = rectangle
    return image[top:bottom, left:right]


def _fill(part: Image, colour: Colour) -> None:
    # A row of whole pixels copies many times faster than three bytes a pixel.
    row = np.empty(part.shape[1:], dtype=np.uint8)
    row[:] = colour
    part[:] = row
