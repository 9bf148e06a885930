"""Table tops of the sample scenes: wood, fabric, tiles, stone, desk mats, prints, plain colours."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np

from flyweight.data.scenes.paint import (
    Image,
    colour,
    flat,
    fractal_noise,
    gradient,
    mix,
    noise,
    tint,
)


def _wood(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
    height, width = size_hw
    hue = float(rng.uniform(0.05, 0.11))
    base = colour(rng, hue=hue, saturation=(0.25, 0.65), value=(0.3, 0.85))
    dark = mix(base, (20, 8, 0), float(rng.uniform(0.35, 0.6)))
    planks = int(rng.integers(2, 7))
    canvas = flat((height, width), base)
    edges = np.linspace(0, height, planks + 1).round().astype(int)
    for low, high in pairwise(edges):
        shape = (int(high - low), width)
        # Grain: noise stretched along the plank, bent by a slow wave, cut into rings.
        slow = noise(rng, shape, (3, 4)) * 2.5
        fine = noise(rng, shape, (max(3, shape[0] // 3), 5))
        rings = np.abs(
            np.sin(slow * 3 + fine * 1.2 + np.linspace(0, 9, shape[0], dtype=np.float32)[:, None])
        )
        shift = mix(base, dark, float(rng.uniform(0, 0.5)))
        canvas[low:high] = tint(flat(shape, shift), rings * 0.4, dark)
        canvas[low : low + max(1, height // 240)] = mix(dark, (0, 0, 0), 0.5)
    return canvas


def _fabric(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
    height, width = size_hw
    base = colour(rng, saturation=(0.05, 0.8), value=(0.15, 0.9))
    canvas = flat((height, width), base)
    pitch = float(rng.uniform(3, 7)) * width / 400
    x = np.sin(np.arange(width, dtype=np.float32) * np.float32(2 * np.pi / pitch))
    y = np.sin(np.arange(height, dtype=np.float32) * np.float32(2 * np.pi / pitch))
    weave = 0.5 + 0.25 * (x[None] + y[:, None])
    canvas = tint(canvas, weave * float(rng.uniform(0.1, 0.35)), (0, 0, 0))
    folds = fractal_noise(rng, size_hw, 3, octaves=2)
    canvas = tint(canvas, folds * 0.2, mix(base, (0, 0, 0), 0.7))
    if rng.uniform() < 0.3:
        other = colour(rng, saturation=(0.1, 0.8), value=(0.3, 1))
        step = width / float(rng.uniform(3, 8))
        check = (np.floor(np.arange(width) / step) % 2)[None] + (
            np.floor(np.arange(height) / step) % 2
        )[:, None]
        canvas = tint(canvas, check.astype(np.float32) * 0.28, other)
    return canvas


def _tiles(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
    height, width = size_hw
    base = colour(rng, saturation=(0.02, 0.45), value=(0.45, 0.95))
    canvas = flat((height, width), base)
    canvas = tint(canvas, fractal_noise(rng, size_hw, 5) * 0.25, mix(base, (60, 50, 40), 0.7))
    step = width / float(rng.uniform(2.2, 6))
    rows, columns = int(height / step) + 1, int(width / step) + 1
    shades = rng.uniform(0, 0.16, (rows, columns)).astype(np.float32)
    size = (round(columns * step), round(rows * step))
    amount = np.asarray(cv2.resize(shades, size, interpolation=cv2.INTER_NEAREST), np.float32)
    canvas = tint(canvas, amount[:height, :width], (0, 0, 0))
    grout = mix(base, (40, 40, 40) if rng.uniform() < 0.5 else (255, 255, 255), 0.55)
    line = max(1, round(width / 160))
    for k in range(columns + 1):
        cv2.line(canvas, (round(k * step), 0), (round(k * step), height), grout, line, cv2.LINE_AA)
    for k in range(rows + 1):
        cv2.line(canvas, (0, round(k * step)), (width, round(k * step)), grout, line, cv2.LINE_AA)
    return canvas


def _stone(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
    base = colour(rng, saturation=(0, 0.2), value=(0.2, 0.95))
    canvas = flat(size_hw, base)
    cloud = fractal_noise(rng, size_hw, 4, octaves=5)
    canvas = tint(canvas, cloud * 0.35, mix(base, (255, 255, 255), 0.7))
    veins = np.clip(1 - np.abs(fractal_noise(rng, size_hw, 3)) * 14, 0, 1)
    return tint(canvas, veins * float(rng.uniform(0.2, 0.6)), mix(base, (70, 64, 60), 0.8))


def _plain(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
    base = colour(rng, saturation=(0, 0.8), value=(0.1, 1))
    other = mix(base, colour(rng), float(rng.uniform(0, 0.4)))
    canvas = gradient(size_hw, [base, other], float(rng.uniform(0, 6)))
    return tint(canvas, fractal_noise(rng, size_hw, 4) * 0.1, mix(base, (0, 0, 0), 0.6))


def _speckle(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
    """Carpet or terrazzo: grains of a few colours."""
    base = colour(rng, saturation=(0, 0.5), value=(0.2, 0.9))
    canvas = flat(size_hw, base)
    for _ in range(3):
        cells = int(rng.integers(size_hw[1] // 10, size_hw[1] // 3))
        grains = np.clip(noise(rng, size_hw, (cells, cells)) * 3 - 1, 0, 1)
        canvas = tint(canvas, grains * 0.6, mix(base, colour(rng), 0.5))
    return canvas


def _patchwork(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
    """A printed cloth or a magazine page: overlapping blocks of colour."""
    height, width = size_hw
    hue = float(rng.uniform())
    canvas = flat((height, width), colour(rng, hue=hue, value=(0.3, 0.9)))
    for _ in range(int(rng.integers(8, 24))):
        shade = colour(rng, hue=hue + float(rng.uniform(-0.2, 0.2)), saturation=(0.1, 0.8))
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        if rng.uniform() < 0.5:
            cv2.circle(
                canvas, centre, int(rng.integers(width // 30, width // 7)), shade, -1, cv2.LINE_AA
            )
        else:
            axes = (
                int(rng.integers(width // 30, width // 5)),
                int(rng.integers(width // 40, width // 12)),
            )
            cv2.ellipse(
                canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, shade, -1, cv2.LINE_AA
            )
    return canvas


def _stripes(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
    height, width = size_hw
    shades = [
        colour(rng, saturation=(0, 0.7), value=(0.3, 1)) for _ in range(int(rng.integers(2, 5)))
    ]
    pitch = width / float(rng.uniform(6, 24))
    index = (np.floor(np.arange(width) / pitch) % len(shades)).astype(int)
    row = np.array(shades, np.uint8)[index]
    canvas = np.ascontiguousarray(np.broadcast_to(row[None], (height, width, 3)))
    return tint(canvas, fractal_noise(rng, size_hw, 3) * 0.2, (0, 0, 0))


SURFACES: tuple[tuple[Callable[[np.random.Generator, tuple[int, int]], Image], float], ...] = (
    (_wood, 0.26),
    (_fabric, 0.16),
    (_tiles, 0.1),
    (_stone, 0.12),
    (_plain, 0.14),
    (_speckle, 0.08),
    (_patchwork, 0.08),
    (_stripes, 0.06),
)


def draw_surface(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
    """A random background, uint8 `[h, w, 3]`."""
    painters, shares = zip(*SURFACES, strict=True)
    return painters[int(rng.choice(len(painters), p=shares))](rng, size_hw)
