"""How a sample is composed: of the whole picture alone, or of several (mosaic, mixup, cutmix)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from flyweight.core.preprocessing import Preprocessing
from flyweight.transforms.geometry import GeometricStep, Matrix, View
from flyweight.transforms.layers import Layer, Layers
from flyweight.transforms.photometric import ColourChange, Distortion
from flyweight.transforms.pictures import Picture, Pictures
from flyweight.transforms.sampling import Rectangle


@dataclass(frozen=True, eq=False)
class Material:
    """What a composition may use.

    Attributes:
        picture: the one whose turn it is.
        others: pictures to combine it with; at least one.
        preprocessing: the network's input.
        steps: geometric steps of a whole picture.
        distortion: of the colours, drawn for each picture by itself, or None.
        rng: where all random numbers come from.
    """

    picture: Picture
    others: Pictures
    preprocessing: Preprocessing
    steps: Sequence[GeometricStep]
    distortion: Distortion | None
    rng: np.random.Generator

    def another(self) -> Picture:
        """One of the others, drawn."""
        return self.others[int(self.rng.integers(len(self.others)))]

    def view(
        self, picture: Picture, steps: Sequence[GeometricStep]
    ) -> tuple[View, ColourChange | None]:
        """The picture after `steps`, on a canvas of its own, and its change of colours."""
        colours = None if self.distortion is None else self.distortion.draw(self.rng)
        view = View.of_picture(
            picture.size_hw,
            np.asarray(picture.boxes_xyxy, dtype=np.float64).reshape(-1, 4),
            np.asarray(picture.labels, dtype=np.int64).reshape(-1),
        )
        for step in steps:
            view = step(view, self.rng)
        return view, colours

    def whole(self, picture: Picture) -> Layer:
        """The picture after `steps`, resized as the preprocessing says."""
        view, colours = self.view(picture, self.steps)
        preprocessing = self.preprocessing.for_images([view.size_hw])
        fit = np.eye(3)
        fit[:2] = preprocessing.matrix(view.size_hw)
        window = _window(preprocessing, view.size_hw, fit)
        return Layer(picture, view.then(fit, preprocessing.size_hw), window, colours)


class Composition(Protocol):
    """Draws the layers of one sample: at least one, their order is that of painting."""

    def __call__(self, material: Material) -> Layers: ...


@dataclass(frozen=True)
class Whole:
    """The picture by itself."""

    def __call__(self, material: Material) -> Layers:
        return [material.whole(material.picture)]


def _window(preprocessing: Preprocessing, canvas_hw: tuple[int, int], fit: Matrix) -> Rectangle:
    """Part of the input that the canvas covers; padding is around it."""
    height, width = preprocessing.content_size_hw(canvas_hw)
    left, top = int(fit[0, 2]), int(fit[1, 2])
    return left, top, left + width, top + height
