"""Random erasing and Cutout: rectangles that hide a part of the sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flyweight.transforms.composition import Composition, Material, Whole
from flyweight.transforms.geometry import Colour
from flyweight.transforms.layers import Layers, Patch, output_size_hw

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RandomErasing:
    """Paint rectangles over the sample (Zhong et al. 2020, arXiv 1708.04896, algorithm 1, with
    the numbers of its experiments). The boxes below lose what is covered; with less than the
    transform's `min_visible` left they are dropped.

    Attributes:
        p: probability.
        count: rectangles.
        area_range: of one, as shares of the sample's area.
        aspect_range: height of one divided by its width, drawn evenly on a log scale.
        fill: RGB, or None for random pixels.
        inner: composes the sample.
    """

    p: float = 0.5
    count: int = 1
    area_range: tuple[float, float] = (0.02, 0.4)
    aspect_range: tuple[float, float] = (0.3, 1 / 0.3)
    fill: Colour | None = None
    inner: Composition = field(default_factory=Whole)

    def __call__(self, material: Material) -> Layers:
        layers = self.inner(material)
        if material.rng.random() >= self.p:
            return layers
        size_hw = output_size_hw(layers)
        return [*layers, *(self._draw(size_hw, material.rng) for _ in range(self.count))]

    def _draw(self, size_hw: tuple[int, int], rng: np.random.Generator) -> Patch:
        height, width = size_hw
        area = height * width * rng.uniform(*self.area_range)
        aspect = math.exp(rng.uniform(*np.log(self.aspect_range)))
        # Where the shape is too long for the sample, it is cut to it.
        high = min(max(round(math.sqrt(area * aspect)), 1), height)
        wide = min(max(round(math.sqrt(area / aspect)), 1), width)
        left = int(rng.integers(width - wide + 1))
        top = int(rng.integers(height - high + 1))
        if self.fill is None:
            pixels = rng.integers(0, 256, (high, wide, 3), dtype=np.uint8)
        else:
            pixels = np.array(self.fill, dtype=np.uint8)
        return Patch((left, top, left + wide, top + high), pixels, size_hw)


@dataclass(frozen=True)
class Cutout:
    """Paint a square of one colour over the sample (DeVries & Taylor 2017, arXiv 1708.04552,
    section 3): its centre is anywhere, so a part of it may lie outside.

    Attributes:
        p: probability.
        count: squares.
        side: of the square, as a share of the sample's shorter side.
        fill: RGB.
        inner: composes the sample.
    """

    p: float = 0.5
    count: int = 1
    side: float = 0.5
    fill: Colour = (114, 114, 114)
    inner: Composition = field(default_factory=Whole)

    def __call__(self, material: Material) -> Layers:
        layers = self.inner(material)
        if material.rng.random() >= self.p:
            return layers
        height, width = output_size_hw(layers)
        side = max(1, round(self.side * min(height, width)))
        centres = material.rng.integers((0, 0), (width, height), (self.count, 2)) - side // 2
        pixels = np.array(self.fill, dtype=np.uint8)
        patches = [
            Patch(
                (max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)),
                pixels,
                (height, width),
            )
            for x, y in centres.tolist()
        ]
        return [*layers, *patches]
