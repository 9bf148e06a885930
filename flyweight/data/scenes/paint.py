"""What the scene painters share: colours, gradients, noise, text, and the flat object they make.

Everything is drawn with numpy and OpenCV from a seeded generator: the same seed gives the same
bytes, and no picture file is needed.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Points = npt.NDArray[np.float32]
Colour = tuple[int, int, int]

# Cap height in pixels of OpenCV's Hershey fonts at scale 1.
_HERSHEY_CAP_HEIGHT = 21.0
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX)
SCRIPT_FONT = cv2.FONT_HERSHEY_SCRIPT_SIMPLEX
_LEVELS = np.arange(256)


@dataclass
class FlatObject:
    """Something flat that lies on the table.

    Attributes:
        rgb: its face, uint8 `[h, w, 3]`.
        outline: its convex outline, float32 `[P, 2]` in pixels of `rgb` (x, y).
        length: its longer side relative to that of a card (85.6 mm).
        thickness: how far it stands out, in the same unit; drives its edge and its shadow.
        side: colour of the edge.
        is_card: whether it is labelled.
    """

    rgb: Image
    outline: Points
    length: float
    thickness: float
    side: Colour
    is_card: bool = False


def colour(
    rng: np.random.Generator,
    *,
    hue: float | None = None,
    saturation: tuple[float, float] = (0.2, 0.9),
    value: tuple[float, float] = (0.2, 1.0),
) -> Colour:
    """A random RGB colour (0..255); `hue`, `saturation`, `value` in 0..1."""
    h = float(rng.uniform()) if hue is None else hue % 1.0
    r, g, b = colorsys.hsv_to_rgb(h, float(rng.uniform(*saturation)), float(rng.uniform(*value)))
    return round(r * 255), round(g * 255), round(b * 255)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` and `share` (0..1) of `second`."""
    r, g, b = (round(a + (c - a) * share) for a, c in zip(first, second, strict=True))
    return r, g, b


def brightness(rgb: Colour) -> float:
    """Luma of a colour, 0..255 (ITU-R BT.601)."""
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def flat(size_hw: tuple[int, int], rgb: Colour) -> Image:
    """An image `[h, w, 3]` of one colour."""
    canvas = np.empty((*size_hw, 3), np.uint8)
    # Many times faster than broadcasting three values over an array.
    cv2.rectangle(canvas, (0, 0), (size_hw[1], size_hw[0]), rgb, -1)
    return canvas


def ramp(size_hw: tuple[int, int], angle: float) -> Plane:
    """Values `[h, w]` that rise from 0 to 1 in the direction `angle` (radians)."""
    height, width = size_hw
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    reach = (abs(cos) + abs(sin)) or 1.0
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(cos / reach)
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32) * np.float32(sin / reach)
    return np.asarray(x[None] + (y[:, None] + np.float32(0.5)), np.float32)


def gradient(size_hw: tuple[int, int], colours: Sequence[Colour], angle: float) -> Image:
    """An image `[h, w, 3]` that blends `colours` along `angle` (radians)."""
    return apply_colours(ramp(size_hw, angle), colours)


def apply_colours(values: Plane, colours: Sequence[Colour]) -> Image:
    """`values [h, w]` (0..1) looked up in a ramp through `colours`: an image `[h, w, 3]`."""
    stops = np.linspace(0, 255, len(colours))
    table = [np.interp(_LEVELS, stops, [c[k] for c in colours]) for k in range(3)]
    lut = np.stack(table, axis=-1).astype(np.uint8)[:, None]
    return np.asarray(cv2.applyColorMap(_to_bytes(values), lut))


def _to_bytes(values: npt.NDArray[np.floating]) -> Image:
    """`values` of 0..1 as uint8 of 0..255, clipped."""
    return np.asarray(cv2.convertScaleAbs(np.maximum(values, 0), alpha=255))


def noise(rng: np.random.Generator, size_hw: tuple[int, int], cells_hw: tuple[int, int]) -> Plane:
    """Smooth noise `[h, w]` around 0, about -1..1, with `cells_hw` bumps (rows, columns)."""
    height, width = size_hw
    rows, columns = max(2, cells_hw[0]), max(2, cells_hw[1])
    coarse = rng.random((rows, columns), np.float32) * 2 - 1
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def fractal_noise(
    rng: np.random.Generator, size_hw: tuple[int, int], cells: int, *, octaves: int = 4
) -> Plane:
    """Sum of noise at doubling frequencies and halving strength, `[h, w]`, about -1..1.

    Built as a pyramid: only the last level has the full size."""
    total: Plane = rng.random((cells, cells), np.float32) * 2 - 1
    for octave in range(1, octaves):
        side = cells << octave
        total = np.asarray(
            cv2.resize(total, (side, side), interpolation=cv2.INTER_CUBIC), np.float32
        )
        total += (rng.random((side, side), np.float32) * 2 - 1) * np.float32(0.5**octave)
    size = (size_hw[1], size_hw[0])
    return np.asarray(cv2.resize(total, size, interpolation=cv2.INTER_CUBIC))


def tint(image: Image, amount: npt.NDArray[np.floating], rgb: Colour) -> Image:
    """`image [h, w, 3]` blended towards `rgb` by `amount [h, w]` (0..1)."""
    share = _to_bytes(amount)
    kept = cv2.multiply(image, cv2.merge([255 - share] * 3), scale=1 / 255)
    added = cv2.applyColorMap(
        share, (_LEVELS[:, None] * np.array(rgb) / 255).astype(np.uint8)[:, None]
    )
    return np.asarray(cv2.add(kept, added))


def write_text(
    canvas: Image,
    text: str,
    origin: tuple[float, float],
    height: float,
    rgb: Colour,
    *,
    font: int = 0,
    weight: float = 1.0,
    max_width: float | None = None,
) -> float:
    """Writes `text` with its baseline's left end at `origin` (x, y) and capitals of `height`.

    All in pixels; shrinks to `max_width`. Returns the width of what was written. `font` is an
    index into the upright fonts, or `SCRIPT_FONT`.
    """
    face = font if font == SCRIPT_FONT else _FONTS[font]
    scale = height / _HERSHEY_CAP_HEIGHT
    thickness = max(1, round(weight * height / (9 if face == cv2.FONT_HERSHEY_SIMPLEX else 16)))
    (width, _), _ = cv2.getTextSize(text, face, scale, thickness)
    if max_width is not None and width > max_width:
        scale *= max_width / width
        width = int(max_width)
    place = (round(origin[0]), round(origin[1]))
    cv2.putText(canvas, text, place, face, scale, rgb, thickness, cv2.LINE_AA)
    return float(width)


def rounded_outline(size_hw: tuple[int, int], radius: float, *, per_corner: int = 6) -> Points:
    """Outline `[4 * per_corner, 2]` (x, y) of a rectangle of `size_hw` pixels, corners rounded."""
    height, width = size_hw
    turn = np.linspace(0, np.pi / 2, per_corner)[None] + np.arange(4)[:, None] * (np.pi / 2)
    low, high = radius, np.array([width, height]) - radius
    x = np.array([high[0], low, low, high[0]])[:, None] + radius * np.cos(turn)
    y = np.array([high[1], high[1], low, low])[:, None] + radius * np.sin(turn)
    return np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)


def fill_polygon(
    canvas: Image, outline: Points, rgb: Colour | int, *, line_type: int = cv2.LINE_AA
) -> None:
    """Fills the convex `outline [P, 2]` (x, y; edges of pixels at integers) in place."""
    # OpenCV fills the border pixels too and so paints too wide, by this much; it puts pixel centres
    # at integers, and reads coordinates in 1/16 here.
    excess = 0.69 if line_type == cv2.LINE_AA else 0.5
    fixed = np.round((_inset(outline, excess) - 0.5) * 16).astype(np.int32)
    cv2.fillConvexPoly(canvas, fixed, rgb, line_type, shift=4)


def _inset(outline: Points, distance: float) -> Points:
    """A convex `outline [P, 2]` moved inwards by `distance` pixels."""
    ring = np.concatenate([outline[-1:], outline, outline[:1]])
    along = ring[2:] - ring[:-2]
    size = np.sqrt(np.einsum("pk,pk->p", along, along)) + 1e-6
    sign = 1.0 if cv2.contourArea(outline, oriented=True) >= 0 else -1.0
    inwards = along[:, ::-1] * np.array([-sign, sign]) / size[:, None]
    return np.asarray(outline + inwards * distance, np.float32)


def rounded_object(
    rgb: Image,
    radius: float,
    *,
    length: float,
    thickness: float,
    side: Colour,
    is_card: bool = False,
) -> FlatObject:
    """A `FlatObject` whose outline is the rectangle of `rgb` with corners of `radius` pixels."""
    size_hw = rgb.shape[0], rgb.shape[1]
    outline = rounded_outline(size_hw, max(radius, 0.5))
    return FlatObject(rgb, outline, length, thickness, side, is_card)
