"""Faces of identity cards and bank cards: what the sample scenes label.

ISO/IEC 7810 ID-1: 85.60 by 53.98 mm, corners of 3.18 mm. Names, countries and banks are invented.
"""

from __future__ import annotations

import cv2
import numpy as np

from flyweight.data.scenes.card_details import (
    CARD_ASPECT,
    FIRST_NAMES,
    LAST_NAMES,
    draw_chip,
    draw_guilloche,
    draw_hologram,
    draw_signature,
)
from flyweight.data.scenes.identity_cards import identity_card
from flyweight.data.scenes.paint import (
    Colour,
    FlatObject,
    Image,
    brightness,
    colour,
    fractal_noise,
    gradient,
    mix,
    rounded_object,
    tint,
    write_text,
)

_CORNER = 3.18 / 85.60
_BANKS = ("NOVA BANK", "ORBIT", "Meadow", "FIRST UNION", "aqua", "PINE TRUST", "Lumo", "CITADEL")
_SCHEMES = ("VISTA", "PAYLO", "UNIO", "MAESTA")


def draw_card(rng: np.random.Generator, width: int) -> FlatObject:
    """A random card, `width` pixels wide: an identity card, a bank card, or the back of one."""
    kind = rng.uniform()
    if kind < 0.5:
        face = identity_card(rng, width)
    elif kind < 0.9:
        face = bank_card(rng, width)
    else:
        face = bank_card_back(rng, width)
    edge = (222, 222, 218)
    return rounded_object(
        face, _CORNER * width, length=1.0, thickness=0.012, side=edge, is_card=True
    )


def bank_card(rng: np.random.Generator, width: int) -> Image:
    """The front of a bank card, uint8 `[h, width, 3]`."""
    height = round(width / CARD_ASPECT)
    canvas, base = _bank_background(rng, width, height)
    ink = (245, 245, 245) if brightness(base) < 140 else (30, 30, 36)
    if rng.uniform() < 0.12:
        ink = (214, 184, 110) if brightness(base) < 110 else ink
    bank_right = rng.uniform() < 0.4
    size = 0.085 * height
    write_text(
        canvas,
        str(rng.choice(_BANKS)),
        ((0.58 if bank_right else 0.06) * width, 0.17 * height),
        size * float(rng.uniform(0.9, 1.4)),
        ink,
        font=1,
        weight=1.2,
        max_width=0.36 * width,
    )
    chip_y = float(rng.uniform(0.3, 0.4))
    draw_chip(canvas, rng, (0.09 * width, chip_y * height), 0.14 * width)
    if rng.uniform() < 0.7:
        _contactless(canvas, (0.29 * width, (chip_y + 0.1) * height), 0.07 * height, ink)
    if rng.uniform() < 0.8:
        digits = rng.integers(0, 10, 16)
        groups = ("".join(map(str, digits[k : k + 4])) for k in range(0, 16, 4))
        shade = mix(ink, base, 0.75)
        line = "  ".join(groups)
        place = (0.08 * width, float(rng.uniform(0.64, 0.7)) * height)
        below = (place[0] + 1, place[1] + 1)
        write_text(canvas, line, below, 0.095 * height, shade, max_width=0.8 * width)
        write_text(canvas, line, place, 0.095 * height, ink, max_width=0.8 * width)
    small = 0.058 * height
    name = f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"
    write_text(canvas, name, (0.08 * width, 0.92 * height), small, ink, max_width=0.45 * width)
    if rng.uniform() < 0.7:
        date = f"{rng.integers(1, 13):02d}/{rng.integers(25, 35)}"
        write_text(canvas, date, (0.08 * width, 0.8 * height), small, ink)
        write_text(canvas, "VALID", (0.28 * width, 0.8 * height), small * 0.6, mix(ink, base, 0.3))
    _scheme(canvas, rng, ink)
    return canvas


def bank_card_back(rng: np.random.Generator, width: int) -> Image:
    """The back of a bank card: magnetic strip, signature panel, small print."""
    height = round(width / CARD_ASPECT)
    canvas, base = _bank_background(rng, width, height)
    strip_y = float(rng.uniform(0.08, 0.14)) * height
    cv2.rectangle(
        canvas, (0, round(strip_y)), (width, round(strip_y + 0.21 * height)), (22, 20, 20), -1
    )
    y = strip_y + 0.3 * height
    left, right = round(0.06 * width), round(0.68 * width)
    cv2.rectangle(canvas, (left, round(y)), (right, round(y + 0.15 * height)), (238, 236, 228), -1)
    for k in range(1, 4):
        row = round(y + k * 0.0375 * height)
        cv2.line(canvas, (left, row), (right, row), (214, 214, 224), 1)
    draw_signature(canvas, rng, (left + 0.04 * width, y + 0.08 * height), 0.3 * width, (30, 34, 96))
    code = f"{rng.integers(0, 1000):03d}"
    write_text(
        canvas,
        code,
        (0.71 * width, y + 0.11 * height),
        0.07 * height,
        mix(base, (255, 255, 255), 0.85) if brightness(base) < 140 else (20, 20, 20),
    )
    ink = (235, 235, 235) if brightness(base) < 140 else (50, 50, 56)
    for k in range(3):
        row = round(y + (0.24 + 0.06 * k) * height)
        end = round(float(rng.uniform(0.5, 0.8)) * width)
        cv2.line(canvas, (left, row), (end, row), mix(base, ink, 0.5), max(1, width // 160))
    if rng.uniform() < 0.5:
        canvas = draw_hologram(canvas, rng, (0.85, 0.8), 0.07)
    return canvas


def _contactless(canvas: Image, centre: tuple[float, float], size: float, rgb: Colour) -> None:
    for k in range(1, 5):
        radius = round(size * k * 0.42)
        place = (round(centre[0]), round(centre[1]))
        cv2.ellipse(
            canvas, place, (radius, radius), 0, -38, 38, rgb, max(1, round(size / 7)), cv2.LINE_AA
        )


def _scheme(canvas: Image, rng: np.random.Generator, ink: Colour) -> None:
    """The payment scheme's mark, bottom right."""
    height, width = canvas.shape[:2]
    if rng.uniform() < 0.5:
        radius = round(0.085 * width * 0.75)
        y = round(0.83 * height)
        first, second = colour(rng, saturation=(0.7, 1), value=(0.7, 1)), (240, 160, 30)
        cv2.circle(canvas, (round(0.82 * width), y), radius, first, -1, cv2.LINE_AA)
        patch = canvas.copy()
        cv2.circle(patch, (round(0.82 * width + radius * 1.1), y), radius, second, -1, cv2.LINE_AA)
        cv2.addWeighted(patch, 0.8, canvas, 0.2, 0, dst=canvas)
    else:
        place = (0.68 * width, 0.9 * height)
        write_text(
            canvas,
            str(rng.choice(_SCHEMES)),
            place,
            0.13 * height,
            ink,
            font=1,
            weight=1.5,
            max_width=0.26 * width,
        )


def _bank_background(rng: np.random.Generator, width: int, height: int) -> tuple[Image, Colour]:
    """A designed background and its leading colour."""
    theme = rng.uniform()
    hue = float(rng.uniform())
    if theme < 0.25:
        base = colour(rng, hue=hue, saturation=(0.1, 0.6), value=(0.08, 0.3))
    elif theme < 0.8:
        base = colour(rng, hue=hue, saturation=(0.55, 0.95), value=(0.4, 0.95))
    else:
        base = colour(rng, hue=hue, saturation=(0.0, 0.25), value=(0.75, 0.97))
    other = colour(
        rng, hue=hue + float(rng.uniform(-0.15, 0.15)), saturation=(0.4, 0.9), value=(0.3, 0.95)
    )
    canvas = gradient(
        (height, width),
        [base, mix(base, other, float(rng.uniform(0.1, 0.9)))],
        float(rng.uniform(0, 2 * np.pi)),
    )
    accent = mix(
        base, (255, 255, 255) if brightness(base) < 128 else other, float(rng.uniform(0.12, 0.35))
    )
    style = int(rng.integers(5))
    layer = canvas.copy()
    if style == 0:
        for _ in range(int(rng.integers(2, 5))):
            centre = (int(rng.integers(width)), int(rng.integers(height)))
            cv2.circle(
                layer, centre, int(rng.integers(width // 6, width // 2)), accent, -1, cv2.LINE_AA
            )
    elif style == 1:
        for k in range(int(rng.integers(3, 8))):
            x = int(width * (k + 1) / 7)
            cv2.line(
                layer,
                (x, -5),
                (x - width // 3, height + 5),
                accent,
                max(1, width // 40),
                cv2.LINE_AA,
            )
    elif style == 2:
        draw_guilloche(layer, rng, accent)
    elif style == 3:
        peaks = np.linspace(0, width, 7)
        heights = height * rng.uniform(0.35, 0.9, 7)
        ridge = np.concatenate([np.stack([peaks, heights], 1), [[width, height], [0, height]]])
        cv2.fillPoly(layer, [ridge.astype(np.int32)], accent, cv2.LINE_AA)
    else:
        layer = tint(layer, fractal_noise(rng, (height, width), 2, octaves=2) * 0.5, accent)
    return np.asarray(cv2.addWeighted(layer, 0.6, canvas, 0.4, 0)), base
