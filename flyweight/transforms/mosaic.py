"""Mosaic: four pictures on one canvas, each resampled once straight into its tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flyweight.transforms.composition import Composition, Material, Whole
from flyweight.transforms.geometry import GeometricStep
from flyweight.transforms.layers import Layer, Layers
from flyweight.transforms.pictures import Picture
from flyweight.transforms.sampling import Rectangle, common


@dataclass(frozen=True)
class Mosaic:
    """Four pictures around a random point (Bochkovskiy et al. 2020, arXiv 2004.10934, section 3.4
    and figure 3).

    Which picture takes which tile is drawn. Each is scaled by a factor of its own, raised where it
    would leave a part of its tile empty, but not above the largest factor; of what is larger than
    its tile a random part is seen, what is smaller touches the point.

    The tiles lie directly on the input: other implementations fill a canvas of twice the size and
    crop and resize that.

    Attributes:
        p: probability; else `otherwise` composes the sample.
        centre_range: where the point lies, as shares of the input's sides; Darknet's
            code leaves a fifth on each side.
        scale_range: sizes of the pictures, relative to what the preprocessing makes of one alone.
        detail: share of the pixels along each axis that are read at least: tiles may be a little
            soft, for JPEGs of twice the size are then read at half of it, which takes two thirds
            of the time.
        steps: geometric steps of each picture before, in place of those of a whole picture.
        otherwise: see `p`.
    """

    p: float = 1.0
    centre_range: tuple[float, float] = (0.2, 0.8)
    scale_range: tuple[float, float] = (0.5, 1.0)
    detail: float = 0.75
    steps: Sequence[GeometricStep] = ()
    otherwise: Composition = field(default_factory=Whole)

    def __post_init__(self) -> None:
        if not 0 < self.centre_range[0] <= self.centre_range[1] < 1:
            raise ValueError(f"centre_range {self.centre_range} is not within 0 and 1")
        if not 0 < self.scale_range[0] <= self.scale_range[1]:
            raise ValueError(f"scale_range {self.scale_range} is not above 0 and rising")

    def __call__(self, material: Material) -> Layers:
        rng = material.rng
        if rng.random() >= self.p:
            return self.otherwise(material)
        height, width = material.preprocessing.size_hw
        shares = rng.uniform(*self.centre_range, 2).tolist()
        # A tile has a pixel at least.
        x = min(max(round(width * shares[0]), 1), max(width - 1, 1))
        y = min(max(round(height * shares[1]), 1), max(height - 1, 1))
        pictures = [material.picture, *(material.another() for _ in range(3))]
        corners = rng.permutation(4).tolist()
        layers = [
            self._tile(material, picture, (x, y), corner)
            for picture, corner in zip(pictures, corners, strict=True)
        ]
        return [layer for layer in layers if layer is not None]

    def _tile(
        self, material: Material, picture: Picture, point: tuple[int, int], corner: int
    ) -> Layer | None:
        """The picture in one tile: `corner` 0 to 3 is above left, above right, below left, right.

        None for a tile without a pixel, on an input one pixel wide or high.
        """
        rng, size_hw = material.rng, material.preprocessing.size_hw
        view, colours = material.view(picture, self.steps)
        alone = material.preprocessing.for_images([view.size_hw]).matrix(view.size_hw)
        scale_x, scale_y = float(alone[0, 0]), float(alone[1, 1])
        wide, high = scale_x * view.size_hw[1], scale_y * view.size_hw[0]
        right, below = bool(corner % 2), corner >= 2
        across = (point[0], size_hw[1]) if right else (0, point[0])
        down = (point[1], size_hw[0]) if below else (0, point[1])
        smallest, largest = self.scale_range
        drawn, *shares = rng.random(3).tolist()
        covering = max((across[1] - across[0]) / wide, (down[1] - down[0]) / high)
        factor = min(max(smallest + (largest - smallest) * drawn, covering), largest)
        left = _offset(across, wide * factor, shares[0], towards_start=right)
        top = _offset(down, high * factor, shares[1], towards_start=below)
        fit = np.array([[scale_x * factor, 0, left], [0, scale_y * factor, top], [0, 0, 1]])
        canvas: Rectangle = (
            round(left),
            round(top),
            max(round(left + wide * factor), round(left) + 1),
            max(round(top + high * factor), round(top) + 1),
        )
        window = common(canvas, (across[0], down[0], across[1], down[1]))
        if window is None:
            return None
        return Layer(picture, view.then(fit, size_hw), window, colours, detail=self.detail)


def _offset(tile: tuple[int, int], length: float, share: float, *, towards_start: bool) -> float:
    """Where a picture of `length` starts, on one axis, to be seen in the range `tile`."""
    spare = length - (tile[1] - tile[0])
    if spare >= 0:
        return tile[0] - spare * share
    return float(tile[0] if towards_start else tile[1] - length)
