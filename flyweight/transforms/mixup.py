"""MixUp for detection: two samples one over the other, the boxes of both."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from flyweight.transforms.composition import Composition, Material, Whole
from flyweight.transforms.layers import Layers


@dataclass(frozen=True)
class MixUp:
    """Blend with another picture (Zhang et al. 2018, arXiv 1710.09412) and keep the boxes of both
    (Zhang et al. 2019, arXiv 1902.04103, "Bag of freebies", section 3.1).

    Both are placed by their own preprocessing, nothing is stretched to the other. The boxes carry
    no weights: each counts as a whole object, as in YOLOX.

    Attributes:
        p: probability.
        beta: the first one's share is drawn from Beta(`beta`, `beta`); None blends half and half,
            as YOLOX (Ge et al. 2021, arXiv 2107.08430) does.
        inner: composes the first sample.
    """

    p: float = 0.5
    beta: float | None = 1.5
    inner: Composition = field(default_factory=Whole)

    def __call__(self, material: Material) -> Layers:
        rng = material.rng
        layers = self.inner(material)
        if rng.random() >= self.p:
            return layers
        share = 0.5 if self.beta is None else float(rng.beta(self.beta, self.beta))
        # Below one grey level of 255 nothing of it would be seen.
        opacity = float(np.clip(1 - share, 1 / 255, 1 - 1 / 255))
        return [*layers, replace(material.whole(material.another()), opacity=opacity)]
