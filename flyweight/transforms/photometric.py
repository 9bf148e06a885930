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

# ITU-R 601 luma of R, G, B, and of white.
LUMA = (0.2989, 0.587, 0.114)
WHITE = sum(LUMA)
RGB = (0, 1, 2)


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
        chances, places = rng.random(6).tolist(), rng.random(4).tolist()
        brightness, contrast, saturation, hue = [
            low + (high - low) * place if chance < self.p else None
            for chance, place, (low, high) in zip(chances[:4], places, ranges, strict=True)
        ]
        channels = None
        if chances[5] < self.p:
            first, second, third = rng.permutation(3).tolist()
            channels = (first, second, third)
        return PhotometricParameters(
            brightness, contrast, saturation, hue, chances[4] < 0.5, channels
        )


def distort(image: Image, parameters: PhotometricParameters) -> Image:
    """Apply drawn `parameters` to an RGB uint8 `[H, W, 3]` image; returns another image, or the
    one given where nothing was drawn."""
    steps = _ColourSteps(image)
    if parameters.brightness is not None:
        steps.multiply(parameters.brightness)
    if parameters.contrast is not None and parameters.contrast_first:
        steps.contrast(parameters.contrast)
    if parameters.saturation is not None:
        steps.saturate(parameters.saturation)
    if parameters.hue is not None:
        steps = _ColourSteps(turn_hue(steps.pixels(), parameters.hue))
    if parameters.contrast is not None and not parameters.contrast_first:
        steps.contrast(parameters.contrast)
    return steps.pixels(parameters.channels or RGB)


class _ColourSteps:
    """Steps on the colours of an image, put together for as long as nothing can clip.

    Whatever follows what, a channel becomes `own * channel + grey * luma + shift`: three numbers.
    A step that stretches levels beyond 0 to 255 has to be clipped before the next one, as if each
    were applied by itself; all others become one matrix and one pass over the pixels.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._own, self._grey, self._shift = 1.0, 0.0, 0.0
        self._stretches = False

    def multiply(self, factor: float) -> None:
        """All levels times `factor`."""
        self._clip()
        self._own *= factor
        self._grey *= factor
        self._shift *= factor
        self._stretches = factor > 1

    def contrast(self, factor: float) -> None:
        """The distance of all levels from the mean luma times `factor`."""
        self._clip()
        # Every fourth row gives the mean to a fraction of a level.
        red, green, blue, _ = cv2.mean(self._image[::4])
        before = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
        luma = (self._own + self._grey * WHITE) * before + self._shift * WHITE
        self.multiply(factor)
        self._shift += (1 - factor) * luma

    def saturate(self, factor: float) -> None:
        """The distance of all levels from their own pixel's luma times `factor`."""
        self._clip()
        luma_grey, luma_shift = self._own + self._grey * WHITE, self._shift * WHITE
        self.multiply(factor)
        self._grey += (1 - factor) * luma_grey
        self._shift += (1 - factor) * luma_shift

    def pixels(self, channels: tuple[int, int, int] = RGB) -> Image:
        """What has become of the image, with `channels` of it as red, green and blue."""
        if (self._own, self._grey, self._shift) == (1, 0, 0) and channels == RGB:
            return self._image
        rows = [[self._grey * share for share in LUMA] + [self._shift] for _ in RGB]
        for channel, row in enumerate(rows):
            row[channel] += self._own
        # OpenCV has a special path for diagonal matrices, three times slower than its path for
        # others; this share of another channel is far below half a level.
        rows[0][1] += 1e-5
        # Each channel is clipped alike, so its place may be changed in the same pass.
        matrix = np.array([rows[channel] for channel in channels])
        return np.asarray(cv2.transform(self._image, matrix), dtype=np.uint8)

    def _clip(self) -> None:
        if self._stretches:
            self._image, self._stretches = self.pixels(), False
            self._own, self._grey, self._shift = 1.0, 0.0, 0.0


def turn_hue(image: Image, turn: float) -> Image:
    """Turn the hue of an RGB uint8 `[H, W, 3]` image by `turn` of the circle (1 is 360 degrees).

    By way of HSV: one turn about the grey axis, a single matrix, is as far from the HSV result as
    the picture itself (measured on COCO pictures: 3.9 levels on average, against 0.13 here).
    """
    hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL), dtype=np.uint8)
    add_to_hue(hsv, turn)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL, hsv), dtype=np.uint8)


def add_to_hue(hsv: Image, turn: float) -> None:
    """Turn the hue of OpenCV's "full" HSV, uint8 `[H, W, 3]`, in place by `turn` of the circle."""
    # 256 hues to the circle: the overflow of uint8 is the turn. Whole rows are added, zeros to
    # saturation and value included, since every third byte by itself takes five times as long.
    row = np.zeros(hsv.shape[1] * 3, dtype=np.uint8)
    row[::3] = round(turn * 256) % 256
    rows = hsv.reshape(len(hsv), -1)
    np.add(rows, row, out=rows)
