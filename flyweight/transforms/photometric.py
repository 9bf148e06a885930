"""SSD's photometric distortion on uint8 pixels, by as few passes over them as possible.

The operations and their ranges are those of torchvision's `v2.RandomPhotometricDistort`, which
restates SSD's (Liu et al. 2016; the Caffe code). It is applied at output resolution, where there
are fewer pixels, and only to the picture, not to what fills the canvas around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
ColourMatrix = npt.NDArray[np.float64]

# ITU-R 601 luma of R, G, B.
LUMA = np.array([0.2989, 0.587, 0.114])


@dataclass(frozen=True)
class PhotometricParameters:
    """One drawn distortion; None leaves a step out.

    Attributes:
        brightness: factor on all levels.
        contrast: factor on the distance from the mean luma.
        saturation: factor on the distance from each pixel's own luma.
        hue: turn of the colour circle, 1 is a whole turn.
        contrast_first: contrast directly after brightness, or at the end.
        channels: for each channel of the result the channel it is taken from.
    """

    brightness: float | None = None
    contrast: float | None = None
    saturation: float | None = None
    hue: float | None = None
    contrast_first: bool = True
    channels: tuple[int, int, int] | None = None

    def apply(self, image: Image) -> Image:
        """This distortion of an RGB uint8 `[H, W, 3]` image."""
        return distort(image, self)


class ColourChange(Protocol):
    """Drawn numbers of a distortion: `[H, W, 3]` RGB uint8 in, another such image out."""

    def apply(self, image: Image) -> Image: ...


class Distortion(Protocol):
    """Draws a change of colours."""

    def draw(self, rng: np.random.Generator) -> ColourChange: ...


@dataclass(frozen=True)
class PhotometricDistortion:
    """Draws and applies SSD's distortion; each step has probability `p` by itself."""

    brightness: tuple[float, float] = (0.875, 1.125)
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: tuple[float, float] = (-0.05, 0.05)
    p: float = 0.5

    def draw(self, rng: np.random.Generator) -> PhotometricParameters:
        """Parameters from a fixed number of draws, plus a permutation when there is one."""
        ranges = (self.brightness, self.contrast, self.saturation, self.hue)
        chances, places = rng.random(6), rng.random(4)
        brightness, contrast, saturation, hue = (
            low + (high - low) * float(place) if chance < self.p else None
            for chance, place, (low, high) in zip(chances[:4], places, ranges, strict=True)
        )
        channels = None
        if chances[5] < self.p:
            first, second, third = rng.permutation(3).tolist()
            channels = (first, second, third)
        return PhotometricParameters(
            brightness, contrast, saturation, hue, bool(chances[4] < 0.5), channels
        )


def distort(image: Image, parameters: PhotometricParameters) -> Image:
    """Apply drawn `parameters` to an RGB uint8 `[H, W, 3]` image; returns another image."""
    steps = _ColourSteps(image)
    if parameters.brightness is not None:
        steps.add(brightness_matrix(parameters.brightness), stretches=parameters.brightness > 1)
    if parameters.contrast is not None and parameters.contrast_first:
        steps.add_contrast(parameters.contrast)
    if parameters.saturation is not None:
        steps.add(saturation_matrix(parameters.saturation), stretches=parameters.saturation > 1)
    if parameters.hue is not None:
        steps = _ColourSteps(turn_hue(steps.pixels(), parameters.hue))
    if parameters.contrast is not None and not parameters.contrast_first:
        steps.add_contrast(parameters.contrast)
    if parameters.channels is not None:
        steps.permute(parameters.channels)
    return steps.pixels()


class _ColourSteps:
    """Affine colour steps on an image, multiplied together for as long as nothing can clip.

    A step that stretches levels beyond 0 to 255 has to be clipped before the next one, as if each
    were applied by itself; all others become one matrix and one pass over the pixels.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._matrix: ColourMatrix | None = None
        self._stretches = False

    def add(self, matrix: ColourMatrix, *, stretches: bool) -> None:
        if self._stretches:
            self._image = self.pixels()
            self._matrix, self._stretches = None, False
        self._matrix = matrix if self._matrix is None else _compose(matrix, self._matrix)
        self._stretches = stretches

    def add_contrast(self, factor: float) -> None:
        if self._stretches:
            self._image = self.pixels()
            self._matrix, self._stretches = None, False
        # Every fourth row gives the mean to a fraction of a level.
        means = np.array(cv2.mean(self._image[::4])[:3])
        if self._matrix is not None:
            means = self._matrix[:, :3] @ means + self._matrix[:, 3]
        self.add(contrast_matrix(factor, float(means @ LUMA)), stretches=factor > 1)

    def permute(self, channels: tuple[int, int, int]) -> None:
        # Each channel is clipped alike, so its place may be changed before.
        matrix = np.eye(3, 4) if self._matrix is None else self._matrix
        self._matrix = matrix[list(channels)]

    def pixels(self) -> Image:
        if self._matrix is None:
            return self._image
        matrix = self._matrix.copy()
        # OpenCV has a special path for diagonal matrices, three times slower than its path for
        # others; this share of another channel is far below half a level.
        matrix[0, 1] += 1e-5
        return np.asarray(cv2.transform(self._image, matrix), dtype=np.uint8)


def brightness_matrix(factor: float) -> ColourMatrix:
    """`[3, 4]` on columns (R, G, B, 1): all levels multiplied."""
    return factor * np.eye(3, 4)


def contrast_matrix(factor: float, mean_luma: float) -> ColourMatrix:
    """`[3, 4]` on columns (R, G, B, 1): levels moved from `mean_luma` by `factor`."""
    matrix = factor * np.eye(3, 4)
    matrix[:, 3] = (1 - factor) * mean_luma
    return matrix


def saturation_matrix(factor: float) -> ColourMatrix:
    """`[3, 4]` on columns (R, G, B, 1): each pixel moved from its own luma by `factor`."""
    matrix = factor * np.eye(3, 4)
    matrix[:, :3] += (1 - factor) * LUMA
    return matrix


def turn_hue(image: Image, turn: float) -> Image:
    """Turn the hue of an RGB uint8 `[H, W, 3]` image by `turn` of the circle (1 is 360 degrees).

    By way of HSV: one turn about the grey axis, a single matrix, is as far from the HSV result as
    the picture itself (measured on COCO pictures: 3.9 levels on average, against 0.13 here).
    """
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    # 256 hues to the circle: the overflow of uint8 is the turn. Whole rows are added, zeros to
    # saturation and value included, since every third byte by itself takes five times as long.
    row = np.tile(np.array([round(turn * 256) % 256, 0, 0], dtype=np.uint8), image.shape[1])
    hsv.reshape(image.shape[0], -1)[:] += row
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL, hsv), dtype=np.uint8)


def _compose(second: ColourMatrix, first: ColourMatrix) -> ColourMatrix:
    """`[3, 4]` of `first [3, 4]`, then `second [3, 4]`."""
    matrix = second[:, :3] @ first
    matrix[:, 3] += second[:, 3]
    return matrix
