"""Darknet's photometric distortion: hue, saturation and value by factors of their own."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.transforms.photometric import add_to_hue

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class HsvParameters:
    """One drawn distortion.

    Attributes:
        turn: of the colour circle, 1 is a whole turn.
        saturation, value: factors.
    """

    turn: float
    saturation: float
    value: float

    def apply(self, image: Image) -> Image:
        """This distortion of an RGB uint8 `[H, W, 3]` image; returns another image."""
        hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL), dtype=np.uint8)
        add_to_hue(hsv, self.turn)
        # Less than half the time of lookup tables. With the diagonal alone OpenCV would take a
        # path three times slower; this share of the saturation is far below half a hue.
        factors = np.array([[1, 1e-5, 0], [0, self.saturation, 0], [0, 0, self.value]])
        cv2.transform(hsv, factors, hsv)
        return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL, hsv), dtype=np.uint8)


@dataclass(frozen=True)
class HsvDistortion:
    """Turns the hue and multiplies saturation and value (Redmon & Farhadi 2018, arXiv 1804.02767).

    The numbers are those of yolov3.cfg and yolov4.cfg, the draw that of Darknet's
    `random_distort_image`: a factor from 1 to the most, or one divided by it, equally often.

    Attributes:
        hue: largest turn either way, 1 is the whole circle.
        saturation: largest factor.
        value: largest factor; Darknet's `exposure`.
    """

    hue: float = 0.1
    saturation: float = 1.5
    value: float = 1.5

    def draw(self, rng: np.random.Generator) -> HsvParameters:
        """Parameters from five numbers of `rng`."""
        place, *factors, saturation_sign, value_sign = rng.random(5).tolist()
        saturation, value = (
            1 + (most - 1) * share
            for most, share in zip((self.saturation, self.value), factors, strict=True)
        )
        return HsvParameters(
            self.hue * (2 * place - 1),
            saturation if saturation_sign < 0.5 else 1 / saturation,
            value if value_sign < 0.5 else 1 / value,
        )
