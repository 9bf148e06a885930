"""From a labelled region of a picture to the input of a classifier: one crop, one resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flyweight.core.preprocessing import Preprocessing
from flyweight.transforms.geometry import RandomFlip, View, translation
from flyweight.transforms.photometric import PhotometricParameters
from flyweight.transforms.pipeline import TrainTransform


@dataclass(frozen=True)
class RegionCrop:
    """See only the region that the view's one box gives, or a random window of it.

    The random resized crop of Szegedy et al. 2015 (arXiv 1409.4842, section 6). A window's aspect
    is relative to its region's, since whatever is seen is stretched to the input, here as in the
    detectors; so every draw fits, and none is repeated.

    Attributes:
        area_range: of the window, as a share of the region.
        aspect_range: of the window's width over its height, in units of the region's.
    """

    area_range: tuple[float, float] = (1.0, 1.0)
    aspect_range: tuple[float, float] = (1.0, 1.0)

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        left, top, right, bottom = self.sample(view.boxes_xyxy[0].tolist(), rng)
        return view.then(translation(-left, -top), (bottom - top, right - left))

    def sample(
        self, region_xyxy: tuple[float, float, float, float], rng: np.random.Generator
    ) -> tuple[int, int, int, int]:
        """A window `xyxy` within `region_xyxy`, whole pixels, at least one each way."""
        x1, y1, x2, y2 = region_xyxy
        place_area, place_aspect, across, down = rng.random(4).tolist()
        (least, most), (narrow, wide) = self.area_range, self.aspect_range
        area = least + (most - least) * place_area
        aspect = narrow * (wide / narrow) ** place_aspect
        width = (x2 - x1) * min(1.0, math.sqrt(area * aspect))
        height = (y2 - y1) * min(1.0, math.sqrt(area / aspect))
        left = x1 + (x2 - x1 - width) * across
        top = y1 + (y2 - y1 - height) * down
        start_x, start_y = round(left), round(top)
        end_x, end_y = round(left + width), round(top + height)
        return start_x, start_y, max(end_x, start_x + 1), max(end_y, start_y + 1)


@dataclass(frozen=True)
class ColourJitter:
    """Brightness, contrast and saturation, each by a factor drawn from its range.

    Lighter than SSD's distortion, which exchanges channels: colour may be what tells two classes
    apart.
    """

    factors: tuple[float, float] = (0.7, 1.3)

    def draw(self, rng: np.random.Generator) -> PhotometricParameters:
        """One distortion to apply."""
        brightness, contrast, saturation = rng.uniform(*self.factors, 3).tolist()
        return PhotometricParameters(
            brightness=brightness, contrast=contrast, saturation=saturation
        )


def training_crop(preprocessing: Preprocessing, *, min_area: float) -> TrainTransform:
    """A random window of at least `min_area` of the region, mirrored or not, light colour."""
    window = RegionCrop(area_range=(min_area, 1.0), aspect_range=(3 / 4, 4 / 3))
    return TrainTransform(preprocessing, (window, RandomFlip()), ColourJitter())


def whole_crop(preprocessing: Preprocessing) -> TrainTransform:
    """The whole region as it is, for measuring."""
    return TrainTransform(preprocessing, (RegionCrop(),), decode_factor=2.0)
