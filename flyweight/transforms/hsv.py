"""Darknet's photometric distortion: one lookup table for each of hue, saturation and value."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
LEVELS = np.arange(256)


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
        tables = np.empty((1, 256, 3), dtype=np.uint8)
        # 256 hues to the circle: the overflow of uint8 is the turn.
        tables[0, :, 0] = (LEVELS + round(self.turn * 256)) % 256
        tables[0, :, 1] = np.minimum(np.rint(LEVELS * self.saturation), 255)
        tables[0, :, 2] = np.minimum(np.rint(LEVELS * self.value), 255)
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
        hsv = cv2.LUT(hsv, tables)
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
