"""CutMix for detection: a rectangle of another picture, with the boxes that are seen in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from flyweight.transforms.composition import Composition, Material, Whole
from flyweight.transforms.layers import Layers, output_size_hw
from flyweight.transforms.sampling import Rectangle, common


@dataclass(frozen=True)
class CutMix:
    """Paste a rectangle of another picture at its place (Yun et al. 2019, arXiv 1905.04899,
    equations 1 and 2).

    Boxes below lose what is covered, or are dropped with too little left; boxes of the pasted
    part are cut at its edges (`min_visible` of the transform decides in both cases).

    Attributes:
        p: probability.
        beta: the share of the sample that stays is drawn from Beta(`beta`, `beta`); 1, the
            paper's, is uniform.
        inner: composes the first sample.
    """

    p: float = 0.5
    beta: float = 1.0
    inner: Composition = field(default_factory=Whole)

    def __call__(self, material: Material) -> Layers:
        rng = material.rng
        layers = self.inner(material)
        if rng.random() >= self.p:
            return layers
        share = float(rng.beta(self.beta, self.beta))
        rectangle = cut_rectangle(output_size_hw(layers), share, rng)
        pasted = material.whole(material.another())
        window = rectangle and common(rectangle, pasted.window)
        return layers if window is None else [*layers, replace(pasted, window=window)]


def cut_rectangle(
    size_hw: tuple[int, int], share: float, rng: np.random.Generator
) -> Rectangle | None:
    """A rectangle of `1 - share` of the area and the sides' own ratio, its centre uniform.

    Equation 2 of Yun et al., with whole pixels; cut at the borders. None when nothing is left.
    """
    height, width = size_hw
    side = math.sqrt(1 - share)
    x, y = (rng.random(2) * (width, height)).tolist()
    corners = (
        max(0, round(x - width * side / 2)),
        max(0, round(y - height * side / 2)),
        min(width, round(x + width * side / 2)),
        min(height, round(y + height * side / 2)),
    )
    return corners if corners[0] < corners[2] and corners[1] < corners[3] else None
