"""What else lies on the table in the sample scenes: look-alikes of cards that are not labelled.

Each painter takes the width in pixels of the longer side and returns a `FlatObject`.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from flyweight.data.scenes.paint import (
    Colour,
    FlatObject,
    Image,
    Points,
    brightness,
    colour,
    flat,
    fractal_noise,
    gradient,
    mix,
    rounded_object,
    tint,
    write_text,
)
from flyweight.data.scenes.stationery import (
    draw_book,
    draw_envelope,
    draw_note,
    draw_paper,
    draw_photo,
)


def draw_phone(rng: np.random.Generator, width: int) -> FlatObject:
    """A telephone, its screen dark or showing icons."""
    height = round(width * float(rng.uniform(0.46, 0.5)))
    body = colour(rng, saturation=(0, 0.25), value=(0.04, 0.2))
    if rng.uniform() < 0.2:
        body = colour(rng, saturation=(0, 0.3), value=(0.7, 0.95))
    face = flat((height, width), body)
    inset = max(2, round(0.035 * height))
    x0, y0, x1, y1 = inset, inset, width - inset, height - inset
    mode = rng.uniform()
    if mode < 0.3:
        glass = gradient((y1 - y0, x1 - x0), [(26, 28, 34), (8, 8, 12)], float(rng.uniform(0, 6)))
        face[y0:y1, x0:x1] = glass
    elif mode < 0.8:
        shades = [colour(rng, saturation=(0.3, 0.8), value=(0.3, 0.9)) for _ in range(3)]
        face[y0:y1, x0:x1] = gradient((y1 - y0, x1 - x0), shades, float(rng.uniform(0, 6)))
        step = (y1 - y0) / 4.6
        for column in range(int(rng.integers(3, 7))):
            for row in range(4):
                icon = colour(rng, saturation=(0.2, 0.9), value=(0.6, 1))
                cx, cy = x0 + (column + 1.2) * step, y0 + (row + 0.8) * step
                low = (round(cx - 0.3 * step), round(cy - 0.3 * step))
                high = (round(cx + 0.3 * step), round(cy + 0.3 * step))
                cv2.rectangle(face, low, high, icon, -1)
    else:
        face[y0:y1, x0:x1] = (244, 245, 247)
        for k in range(6):
            x = round(x0 + (0.14 + 0.13 * k) * (x1 - x0))
            mine = k % 2
            bubble = (60, 140, 250) if mine else (214, 218, 222)
            low = (x, round(y0 + (0.08 if mine else 0.4) * height))
            high = (round(x + 0.09 * width), round(y0 + (0.52 if mine else 0.86) * height))
            cv2.rectangle(face, low, high, bubble, -1)
    camera = (round(2.2 * inset), height // 2)
    cv2.circle(face, camera, max(1, round(0.03 * height)), (10, 10, 14), -1, cv2.LINE_AA)
    return rounded_object(
        face,
        0.13 * height,
        length=float(rng.uniform(1.6, 1.9)),
        thickness=0.09,
        side=mix(body, (90, 90, 96), 0.5),
    )


def draw_keyboard(rng: np.random.Generator, width: int) -> FlatObject:
    """A keyboard: rows of keys."""
    height = round(width * float(rng.uniform(0.32, 0.4)))
    dark = rng.uniform() < 0.6
    body = colour(rng, saturation=(0, 0.12), value=(0.1, 0.25) if dark else (0.75, 0.92))
    key = mix(body, (255, 255, 255), 0.13) if dark else mix(body, (255, 255, 255), 0.6)
    ink = (210, 210, 214) if dark else (90, 90, 96)
    face = flat((height, width), body)
    rows = 5
    pitch = (height * 0.92) / rows
    gap = pitch * 0.14
    for row in range(rows):
        x = height * 0.04 + pitch * 0.25 * (row % 3)
        y = height * 0.04 + row * pitch
        while x < width - pitch:
            span = pitch
            if row == rows - 1 and 0.25 * width < x < 0.3 * width:
                span = 0.34 * width
            low = (round(x), round(y))
            high = (round(min(x + span, width - 2) - gap), round(y + pitch - gap))
            cv2.rectangle(face, low, high, key, -1)
            centre = (round(x + pitch * 0.3), round(y + pitch * 0.4))
            cv2.circle(face, centre, max(1, round(pitch * 0.07)), ink, -1)
            x += span
    return rounded_object(
        face,
        0.03 * width,
        length=float(rng.uniform(3.2, 4.2)),
        thickness=0.14,
        side=mix(body, (0, 0, 0), 0.4),
    )


def draw_coaster(rng: np.random.Generator, width: int) -> FlatObject:
    """A coaster: a disc of cork, wood or slate, or one with a printed ring."""
    base = colour(rng, hue=float(rng.uniform(0.04, 0.12)), saturation=(0.2, 0.6), value=(0.35, 0.8))
    if rng.uniform() < 0.3:
        base = colour(rng, saturation=(0.3, 0.8), value=(0.3, 0.9))
    face = flat((width, width), base)
    grain = fractal_noise(rng, (width, width), 12, octaves=3)
    face = tint(face, np.abs(grain) * 0.3, mix(base, (0, 0, 0), 0.6))
    centre = (width // 2, width // 2)
    ring = mix(base, (255, 255, 255), 0.5)
    cv2.circle(face, centre, round(0.4 * width), ring, max(1, width // 50), cv2.LINE_AA)
    return _disc(
        face, length=float(rng.uniform(0.9, 1.2)), thickness=0.05, side=mix(base, (0, 0, 0), 0.35)
    )


def draw_cup(rng: np.random.Generator, width: int) -> FlatObject:
    """A cup of coffee or tea from above."""
    china = colour(rng, saturation=(0, 0.5), value=(0.6, 1))
    face = gradient(
        (width, width),
        [mix(china, (255, 255, 255), 0.5), mix(china, (0, 0, 0), 0.25)],
        float(rng.uniform(0, 6)),
    )
    centre = (width // 2, width // 2)
    cv2.circle(face, centre, round(0.43 * width), mix(china, (0, 0, 0), 0.3), -1, cv2.LINE_AA)
    drink: Colour = (74, 44, 26) if rng.uniform() < 0.6 else (176, 104, 40)
    cv2.circle(face, centre, round(0.4 * width), drink, -1, cv2.LINE_AA)
    foam = (round(0.44 * width), round(0.42 * width))
    cv2.ellipse(
        face,
        foam,
        (round(0.22 * width), round(0.12 * width)),
        30,
        0,
        360,
        mix(drink, (255, 236, 210), 0.35),
        -1,
        cv2.LINE_AA,
    )
    return _disc(
        face, length=float(rng.uniform(0.9, 1.15)), thickness=0.45, side=mix(china, (0, 0, 0), 0.3)
    )


def draw_coin(rng: np.random.Generator, width: int) -> FlatObject:
    """A coin."""
    metal: Colour = ((205, 168, 92), (190, 192, 196), (176, 112, 72))[int(rng.integers(3))]
    face = gradient(
        (width, width),
        [mix(metal, (255, 255, 255), 0.45), metal, mix(metal, (0, 0, 0), 0.3)],
        float(rng.uniform(0, 6)),
    )
    centre = (width // 2, width // 2)
    rim = mix(metal, (0, 0, 0), 0.35)
    cv2.circle(face, centre, round(0.42 * width), rim, max(1, width // 24), cv2.LINE_AA)
    write_text(
        face,
        str(rng.choice(("1", "2", "5", "10"))),
        (0.34 * width, 0.66 * width),
        0.36 * width,
        rim,
        font=1,
    )
    return _disc(face, length=float(rng.uniform(0.24, 0.3)), thickness=0.025, side=rim)


def draw_calculator(rng: np.random.Generator, width: int) -> FlatObject:
    """A pocket calculator: close to a card in shape, told apart by its keys."""
    height = round(width * float(rng.uniform(0.56, 0.66)))
    body = colour(rng, saturation=(0, 0.4), value=(0.15, 0.9))
    face = flat((width, height), body)  # upright
    cv2.rectangle(
        face,
        (round(0.1 * height), round(0.06 * width)),
        (round(0.9 * height), round(0.24 * width)),
        (150, 168, 140),
        -1,
    )
    write_text(
        face,
        str(rng.integers(10, 99999)),
        (0.4 * height, 0.19 * width),
        0.16 * height,
        (40, 50, 40),
        max_width=0.48 * height,
    )
    key = mix(body, (255, 255, 255) if brightness(body) < 128 else (0, 0, 0), 0.35)
    for row in range(5):
        for column in range(4):
            special = column == 3
            shade = (220, 120, 40) if special else key
            x, y = (0.1 + 0.21 * column) * height, (0.31 + 0.13 * row) * width
            low, high = (round(x), round(y)), (round(x + 0.16 * height), round(y + 0.09 * width))
            cv2.rectangle(face, low, high, shade, -1)
    face = np.ascontiguousarray(np.rot90(face, int(rng.choice((1, 3)))))
    return rounded_object(
        face,
        0.04 * width,
        length=float(rng.uniform(1.2, 1.6)),
        thickness=0.1,
        side=mix(body, (0, 0, 0), 0.4),
    )


def _disc(face: Image, *, length: float, thickness: float, side: Colour) -> FlatObject:
    width = face.shape[1]
    turn = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    outline: Points = (width / 2 * (1 + np.stack([np.cos(turn), np.sin(turn)], 1))).astype(
        np.float32
    )
    return FlatObject(face, outline, length, thickness, side)


DISTRACTORS: tuple[tuple[Callable[[np.random.Generator, int], FlatObject], float], ...] = (
    (draw_book, 0.15),
    (draw_phone, 0.16),
    (draw_paper, 0.14),
    (draw_photo, 0.12),
    (draw_note, 0.1),
    (draw_keyboard, 0.07),
    (draw_coaster, 0.06),
    (draw_cup, 0.06),
    (draw_coin, 0.06),
    (draw_calculator, 0.04),
    (draw_envelope, 0.04),
)


def draw_distractor(rng: np.random.Generator, width: int) -> FlatObject:
    """A random object that is no card; its longer side is `width` pixels in its own picture."""
    painters, shares = zip(*DISTRACTORS, strict=True)
    weights = np.array(shares) / sum(shares)
    return painters[int(rng.choice(len(painters), p=weights))](rng, width)
