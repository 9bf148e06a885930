"""What light, lens and hands do to a sample scene: shadows, glare, fingers, pens, blur, noise."""

from __future__ import annotations

import cv2
import numpy as np

from flyweight.data.scenes.paint import Colour, Image, Points, colour, mix, noise, ramp

_SKINS: tuple[Colour, ...] = ((238, 196, 168), (218, 166, 134), (176, 118, 84), (120, 74, 50))


def cast_shadow(
    scene: Image, outline: Points, *, offset: tuple[float, float], blur: float, strength: float
) -> None:
    """Darkens `scene` in place where the convex `outline [P, 2]` keeps the light away.

    `offset` (x, y) and `blur` in pixels; `strength` 0..1 is how dark it gets.
    """
    moved = outline + np.array(offset, np.float32)
    margin = 2 * blur + 2
    x0, y0, x1, y1 = region_of(moved, margin, scene.shape)
    if x1 <= x0 or y1 <= y0:
        return
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    fixed = np.round((moved - (x0, y0)) * 16).astype(np.int32)
    cv2.fillConvexPoly(mask, fixed, round(255 * strength), cv2.LINE_AA, shift=4)
    size = 2 * max(1, round(blur)) + 1
    mask = np.asarray(cv2.blur(cv2.blur(mask, (size, size)), (size, size)))
    darken(scene[y0:y1, x0:x1], mask)


def darken(patch: Image, mask: Image) -> None:
    """Multiplies `patch [h, w, 3]` in place by `1 - mask / 255`, `mask` uint8 `[h, w]`."""
    light = cv2.merge([255 - mask] * 3)
    cv2.multiply(patch, light, dst=patch, scale=1 / 255)


def draw_finger(
    rng: np.random.Generator,
    scene: Image,
    tip: tuple[float, float],
    direction: float,
    width: float,
    skin: Colour,
    *,
    length: float,
) -> Points:
    """A finger whose tip reaches `tip` (x, y), pointing along `direction` (radians), `width` wide.

    Drawn in place; returns its outline `[P, 2]`, in pixels.
    """
    along = np.array([np.cos(direction), np.sin(direction)])
    end = np.array(tip) - along * width / 2
    start = end - along * length
    outline = _capsule(start, end, width * float(rng.uniform(1.1, 1.35)), width)
    cast_shadow(scene, outline, offset=(0.12 * width, 0.18 * width), blur=0.2 * width, strength=0.4)
    side = np.array([-along[1], along[0]])
    # Lit from one side: narrower and lighter strokes, shifted.
    for k in range(4):
        shade = mix(mix(skin, (70, 20, 10), 0.4), skin, k / 3)
        shift = side * width * 0.05 * k
        shrink = width * (1 - 0.19 * k)
        layer = _capsule(start + shift, end + shift * 0.7, shrink * 1.1, shrink)
        fixed = np.round(layer * 16).astype(np.int32)
        cv2.fillConvexPoly(scene, fixed, shade, cv2.LINE_AA, shift=4)
    nail = end + along * width * 0.1
    centre = (round(float(nail[0]) * 16), round(float(nail[1]) * 16))
    axes = (round(width * 0.3 * 16), round(width * 0.24 * 16))
    turn = float(np.degrees(direction))
    cv2.ellipse(
        scene, centre, axes, turn, 0, 360, mix(skin, (255, 214, 206), 0.55), -1, cv2.LINE_AA, 4
    )
    x0, y0, x1, y1 = region_of(outline, 2, scene.shape)
    if x1 > x0 and y1 > y0:
        patch = scene[y0:y1, x0:x1]
        mask = np.zeros(patch.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, np.round((outline - (x0, y0)) * 16).astype(np.int32), 255, shift=4)
        size = 2 * max(1, round(width * 0.05)) + 1
        np.copyto(patch, cv2.blur(patch, (size, size)), where=mask[..., None] > 0)
    return outline


def draw_pen(
    rng: np.random.Generator,
    scene: Image,
    centre: tuple[float, float],
    direction: float,
    length: float,
) -> Points:
    """A pen or a pencil lying across; drawn in place, returns its outline `[P, 2]` in pixels."""
    along = np.array([np.cos(direction), np.sin(direction)])
    start, end = np.array(centre) - along * length / 2, np.array(centre) + along * length / 2
    width = length * float(rng.uniform(0.055, 0.08))
    outline = _capsule(start, end, width, width)
    cast_shadow(scene, outline, offset=(0.35 * width, 0.55 * width), blur=0.4 * width, strength=0.5)
    body = colour(rng, saturation=(0.1, 0.95), value=(0.1, 0.9))
    side = np.array([-along[1], along[0]])

    def stroke(
        share_from: float, share_to: float, wide: float, rgb: Colour, shift: float = 0.0
    ) -> None:
        a = start + (end - start) * share_from + side * shift
        b = start + (end - start) * share_to + side * shift
        fixed = np.round(_capsule(a, b, wide, wide) * 16).astype(np.int32)
        cv2.fillConvexPoly(scene, fixed, rgb, cv2.LINE_AA, shift=4)

    stroke(0.0, 0.9, width, mix(body, (0, 0, 0), 0.3))
    stroke(0.0, 0.9, width * 0.6, body, -0.12 * width)
    stroke(0.02, 0.88, width * 0.18, mix(body, (255, 255, 255), 0.6), -0.2 * width)
    stroke(0.9, 0.96, width * 0.6, (200, 190, 170))
    stroke(0.96, 1.0, width * 0.25, (50, 50, 54))
    stroke(0.0, 0.02, width * 0.9, mix(body, (0, 0, 0), 0.55))
    stroke(0.08, 0.3, width * 0.16, (206, 206, 210), 0.1 * width)
    return outline


def add_glare(rng: np.random.Generator, face: Image) -> Image:
    """A window's or a lamp's reflection on a shiny face, uint8 `[h, w, 3]`."""
    height, width = face.shape[:2]
    strength = float(rng.uniform(60, 200))
    if rng.uniform() < 0.6:
        t = ramp((height, width), float(rng.uniform(0, 2 * np.pi)))
        place, spread = float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.05, 0.18))
        light = np.exp(-(((t - place) / spread) ** 2))
    else:
        x = (np.arange(width, dtype=np.float32) / width - float(rng.uniform(0.2, 0.8))) / float(
            rng.uniform(0.1, 0.25)
        )
        y = (np.arange(height, dtype=np.float32) / height - float(rng.uniform(0.2, 0.8))) / float(
            rng.uniform(0.12, 0.35)
        )
        light = np.exp(-(x[None] ** 2 + y[:, None] ** 2))
    amount = (light * strength).astype(np.uint8)
    return np.asarray(cv2.add(face, cv2.merge([amount] * 3)))


def light_scene(rng: np.random.Generator, scene: Image) -> Image:
    """Uneven light, a vignette, at times the hard edge of a shadow that falls across."""
    height, width = scene.shape[:2]
    # Light changes slowly: a quarter of the size will do.
    size_hw = (height + 3) // 4, (width + 3) // 4
    light = 1 + noise(rng, size_hw, (3, 3)) * np.float32(rng.uniform(0.03, 0.2))
    light *= 1 + (ramp(size_hw, float(rng.uniform(0, 6))) - 0.5) * np.float32(rng.uniform(0, 0.5))
    if rng.uniform() < 0.25:
        edge = ramp(size_hw, float(rng.uniform(0, 6))) - np.float32(rng.uniform(0.3, 0.7))
        soft = np.float32(rng.uniform(20, 120))
        light *= 1 - np.float32(rng.uniform(0.2, 0.5)) / (1 + np.exp(-edge * soft))
    full = cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR)
    mean = float(rng.uniform(0.7, 1.2))
    # The camera's white balance: warmer or colder, a little green or magenta.
    warmth, green = float(rng.normal(0, 0.07)), float(rng.normal(0, 0.025))
    gains = (mean * (1 + warmth), mean * (1 + green), mean * (1 - warmth))
    channels = [
        cv2.multiply(channel, full, scale=gain, dtype=cv2.CV_8U)
        for channel, gain in zip(cv2.split(scene), gains, strict=True)
    ]
    return np.asarray(cv2.merge(channels))


def blur_scene(rng: np.random.Generator, scene: Image) -> Image:
    """Out of focus, shaken, or sharp; strength grows with the size of the picture."""
    unit = max(scene.shape[:2]) / 320
    kind = rng.uniform()
    if kind < 0.25:
        sigma = float(rng.uniform(0.4, 1.5)) * unit
        return np.asarray(cv2.GaussianBlur(scene, (0, 0), sigma))
    if kind < 0.42:
        length = max(2, round(float(rng.uniform(2, 8)) * unit))
        angle = float(rng.uniform(0, np.pi))
        half = (length + 1) // 2
        kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
        reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        low, high = np.round((half - reach) * 16), np.round((half + reach) * 16)
        first = (int(low[0]), int(low[1]))
        cv2.line(kernel, first, (int(high[0]), int(high[1])), 1.0, 1, cv2.LINE_8, 4)
        return np.asarray(cv2.filter2D(scene, -1, kernel / kernel.sum()))
    return scene


def add_sensor_noise(rng: np.random.Generator, scene: Image) -> Image:
    """Noise of the sensor; the sum of two uniform bytes is close enough to a bell and cheap."""
    sigma = float(rng.uniform(0, 1)) ** 2 * 10 + 1
    raw = np.frombuffer(rng.bytes(scene.size + 7), np.uint8)
    first, second = (raw[k : k + scene.size].reshape(scene.shape) for k in (0, 7))
    scale = sigma / 104
    bell = cv2.addWeighted(first, scale, second, scale, -255 * scale, dtype=cv2.CV_16S)
    return np.asarray(cv2.add(scene, bell, dtype=cv2.CV_8U))


def compress_scene(scene: Image, quality: int) -> Image:
    """The picture after a round through JPEG at `quality` (0..100)."""
    _, data = cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))


def skin_colour(rng: np.random.Generator) -> Colour:
    """The colour of a hand."""
    return _SKINS[int(rng.integers(len(_SKINS)))]


def _capsule(start: np.ndarray, end: np.ndarray, width_start: float, width_end: float) -> Points:
    """Outline `[P, 2]` of a thick line from `start` to `end` (x, y) with round ends."""
    along = end - start
    angle = float(np.arctan2(along[1], along[0]))
    turn = np.linspace(-np.pi / 2, np.pi / 2, 10) + angle
    front = end + np.stack([np.cos(turn), np.sin(turn)], 1) * width_end / 2
    back = start - np.stack([np.cos(turn), np.sin(turn)], 1) * width_start / 2
    return np.concatenate([front, back]).astype(np.float32)


def region_of(
    outline: Points, margin: float, size_hw: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """Corners (x0, y0, x1, y1) of the part of an image around `outline [P, 2]`, whole pixels."""
    height, width = size_hw[:2]
    low = np.floor(outline.min(axis=0) - margin)
    high = np.ceil(outline.max(axis=0) + margin)
    x0, y0 = max(0, int(low[0])), max(0, int(low[1]))
    return x0, y0, min(width, int(high[0])), min(height, int(high[1]))
