"""Details that identity cards and bank cards share: fine waves, chip, hologram, signature."""

from __future__ import annotations

import cv2
import numpy as np

from flyweight.data.scenes.paint import (
    Colour,
    Image,
    colour,
    gradient,
    mix,
)

# ISO/IEC 7810 ID-1: 85.60 by 53.98 mm.
CARD_ASPECT = 85.60 / 53.98
FIRST_NAMES = (
    "ANNA",
    "BORIS",
    "CHEN",
    "DIANA",
    "EMIL",
    "FATIMA",
    "GRETA",
    "HUGO",
    "INES",
    "JONAS",
    "KIRA",
)
LAST_NAMES = (
    "ALVAREZ",
    "BERG",
    "COSTA",
    "DUBOIS",
    "ERIKSEN",
    "FISCHER",
    "GRECO",
    "HOLM",
    "IVANOVA",
    "SATO",
)


def paste(canvas: Image, patch: Image, x: float, y: float) -> None:
    x0, y0 = max(0, round(x)), max(0, round(y))
    target = canvas[y0 : y0 + patch.shape[0], x0 : x0 + patch.shape[1]]
    target[:] = patch[: target.shape[0], : target.shape[1]]


def draw_guilloche(canvas: Image, rng: np.random.Generator, rgb: Colour) -> None:
    """The fine waves of security printing."""
    height, width = canvas.shape[:2]
    x = np.linspace(0, width, 40)
    phase, waves = float(rng.uniform(0, 6)), float(rng.uniform(1, 4))
    lines = int(rng.integers(8, 22))
    amplitude = float(rng.uniform(0.04, 0.2)) * height
    curves = []
    for k in range(lines):
        y = (k + 0.5) / lines * height
        y = y + amplitude * np.sin(x / width * waves * 2 * np.pi + phase + k * 0.4)
        curves.append(np.round(np.stack([x, y], 1) * 16).astype(np.int32))
    cv2.polylines(canvas, curves, False, rgb, 1, cv2.LINE_AA, shift=4)


def draw_signature(
    canvas: Image, rng: np.random.Generator, origin: tuple[float, float], length: float, rgb: Colour
) -> None:
    """A scrawl that starts at `origin` (x, y)."""
    t = np.linspace(0, 1, 28)
    wave = np.sin(t * float(rng.uniform(14, 26)) + float(rng.uniform(0, 6))) * (1.15 - t)
    loop = np.cos(t * float(rng.uniform(10, 20))) * 0.03
    points = np.stack([origin[0] + (t + loop) * length, origin[1] + wave * length * 0.12], 1)
    fixed = np.round(points * 16).astype(np.int32)
    cv2.polylines(canvas, [fixed], False, rgb, max(1, round(length / 70)), cv2.LINE_AA, shift=4)


def draw_chip(
    canvas: Image, rng: np.random.Generator, origin: tuple[float, float], width: float
) -> None:
    """Contact plates, gold or silver."""
    gold: Colour = (212, 175, 88) if rng.uniform() < 0.7 else (196, 198, 202)
    x0, y0 = round(origin[0]), round(origin[1])
    x1, y1 = round(origin[0] + width), round(origin[1] + width * 0.78)
    x1, y1 = min(x1, canvas.shape[1] - 1), min(y1, canvas.shape[0] - 1)
    if x1 - x0 < 4 or y1 - y0 < 4:
        return
    plate = gradient((y1 - y0, x1 - x0), [mix(gold, (255, 255, 255), 0.35), gold], 0.8)
    canvas[y0:y1, x0:x1] = plate
    line = mix(gold, (60, 40, 10), 0.6)
    cv2.rectangle(canvas, (x0, y0), (x1, y1), line, 1, cv2.LINE_AA)
    third = (y1 - y0) / 3
    for k in (1, 2):
        row = round(y0 + k * third)
        cv2.line(canvas, (x0, row), (x1, row), line, 1)
    a, b = round(x0 + (x1 - x0) * 0.33), round(x0 + (x1 - x0) * 0.67)
    cv2.line(canvas, (a, y0), (a, y1), line, 1)
    cv2.line(canvas, (b, y0), (b, y1), line, 1)
    cv2.rectangle(canvas, (a, round(y0 + third * 0.8)), (b, round(y0 + third * 2.2)), gold, -1)


def draw_hologram(
    canvas: Image, rng: np.random.Generator, where: tuple[float, float], size: float
) -> Image:
    """A translucent disc in rainbow colours; `where` (x, y) and `size` relative to the card."""
    height, width = canvas.shape[:2]
    radius = max(3, round(size * width))
    cx, cy = round(where[0] * width), round(where[1] * height)
    x0, y0 = max(0, cx - radius), max(0, cy - radius)
    x1, y1 = min(width, cx + radius), min(height, cy + radius)
    patch = canvas[y0:y1, x0:x1]
    if patch.size == 0:
        return canvas
    shades = [colour(rng, saturation=(0.35, 0.7), value=(0.85, 1)) for _ in range(5)]
    rainbow = gradient((y1 - y0, x1 - x0), shades, float(rng.uniform(0, np.pi)))
    mask = np.zeros(patch.shape[:2], np.uint8)
    cv2.circle(mask, (cx - x0, cy - y0), radius - 1, 140, -1, cv2.LINE_AA)
    cv2.circle(mask, (cx - x0, cy - y0), round(radius * 0.6), 100, -1, cv2.LINE_AA)
    share = (mask.astype(np.float32) / 255)[..., None]
    patch[:] = (patch + (rainbow.astype(np.float32) - patch) * share).astype(np.uint8)
    return canvas
