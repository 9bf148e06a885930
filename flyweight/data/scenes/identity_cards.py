"""Faces of identity cards and licences, of countries that do not exist."""

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
    paste,
)
from flyweight.data.scenes.paint import (
    Colour,
    Image,
    colour,
    gradient,
    mix,
    write_text,
)

_COUNTRIES = (
    "ARCADIA",
    "NORTHLAND",
    "UTOPIA",
    "RIVERLAND",
    "LUMIERE",
    "OSTMARK",
    "VALDORA",
    "MERIDIA",
)
_TITLES = ("IDENTITY CARD", "NATIONAL ID", "DRIVING LICENCE", "RESIDENCE PERMIT", "STUDENT CARD")
_SKINS: tuple[Colour, ...] = (
    (244, 208, 177),
    (224, 172, 140),
    (190, 130, 95),
    (141, 85, 56),
    (92, 58, 40),
)
_MRZ = np.array(list("ABCDEFGHIKLMNOPRSTUVZ0123456789<<<<<<"))


def identity_card(rng: np.random.Generator, width: int) -> Image:
    """The face of an identity card or licence, uint8 `[h, width, 3]`."""
    height = round(width / CARD_ASPECT)
    hue = float(rng.uniform())
    strong = rng.uniform() < 0.2
    saturation = (0.25, 0.5) if strong else (0.05, 0.28)
    base = [
        colour(rng, hue=hue + shift, saturation=saturation, value=(0.82, 1.0))
        for shift in (0.0, float(rng.uniform(-0.2, 0.2)), float(rng.uniform(-0.1, 0.1)))
    ]
    ink = colour(
        rng, hue=hue + float(rng.choice((0.0, 0.5))), saturation=(0.6, 1), value=(0.2, 0.6)
    )
    canvas = gradient((height, width), base, float(rng.uniform(0, np.pi)))
    draw_guilloche(canvas, rng, mix(base[0], ink, float(rng.uniform(0.12, 0.3))))
    top = _header(canvas, rng, ink)
    photo_w, photo_h = 0.26 * width, 0.27 * width * float(rng.uniform(1.15, 1.3))
    photo_left = rng.uniform() < 0.75
    photo_x = 0.05 * width if photo_left else 0.69 * width
    photo_y = top + 0.05 * height
    with_mrz = rng.uniform() < 0.35
    if with_mrz:
        photo_h *= 0.8
    portrait = _portrait(rng, round(photo_w), round(photo_h))
    paste(canvas, portrait, photo_x, photo_y)
    text_x = 0.36 * width if photo_left else 0.06 * width
    with_barcode = not with_mrz and rng.uniform() < 0.2
    bottom = height * (0.74 if with_mrz else 0.83 if with_barcode else 0.95)
    _fields(canvas, rng, (text_x, photo_y), (0.58 * width, bottom - photo_y), ink)
    if with_mrz:
        _machine_readable_zone(canvas, rng, light=base[0])
    elif with_barcode:
        _barcode(canvas, rng, (0.4 * width, 0.86 * height), (0.5 * width, 0.09 * height))
    if rng.uniform() < 0.3:
        chip_x = 0.8 if photo_left else 0.46
        draw_chip(canvas, rng, (chip_x * width, top + 0.08 * height), 0.12 * width)
    if rng.uniform() < 0.6:
        where = (float(rng.uniform(0.35, 0.85)), float(rng.uniform(0.4, 0.8)))
        canvas = draw_hologram(canvas, rng, where, float(rng.uniform(0.08, 0.14)))
    return canvas


def _header(canvas: Image, rng: np.random.Generator, ink: Colour) -> float:
    """Country and title, in a band or plain; returns where it ends, y in pixels."""
    height, width = canvas.shape[:2]
    end = float(rng.uniform(0.15, 0.22)) * height
    rgb: Colour = ink
    if rng.uniform() < 0.6:
        cv2.rectangle(canvas, (0, 0), (width, round(end)), ink, -1)
        rgb = (250, 250, 250)
    emblem_x = float(rng.choice((0.06, 0.88))) * width
    text_x = 0.05 * width if emblem_x > 0.5 * width else 0.17 * width
    if rng.uniform() < 0.5:
        stripes = [colour(rng, saturation=(0.5, 1), value=(0.6, 1)) for _ in range(3)]
        for k, stripe in enumerate(stripes):
            x = round(emblem_x + k * 0.025 * width)
            low = (
                (x, round(0.04 * height)),
                (x + max(1, round(0.025 * width)), round(0.13 * height)),
            )
            cv2.rectangle(canvas, *low, stripe, -1)
    else:
        centre = (round(emblem_x + 0.03 * width), round(end * 0.5))
        cv2.circle(canvas, centre, round(end * 0.36), (220, 180, 70), -1, cv2.LINE_AA)
        cv2.circle(
            canvas, centre, round(end * 0.2), mix(ink, (255, 255, 255), 0.3), -1, cv2.LINE_AA
        )
    size = end * 0.34
    used = write_text(
        canvas,
        str(rng.choice(_COUNTRIES)),
        (text_x, end * 0.66),
        size,
        rgb,
        font=1,
        max_width=0.35 * width,
    )
    write_text(
        canvas,
        str(rng.choice(_TITLES)),
        (text_x + used + 0.04 * width, end * 0.66),
        size * 0.8,
        rgb,
        max_width=0.36 * width,
    )
    return end


def _portrait(rng: np.random.Generator, width: int, height: int) -> Image:
    """A passport photo: backdrop, shoulders, head and hair, uint8 `[height, width, 3]`."""
    backdrop = colour(rng, saturation=(0.02, 0.3), value=(0.65, 0.95))
    canvas = gradient((height, width), [mix(backdrop, (255, 255, 255), 0.4), backdrop], np.pi / 2)
    skin = _SKINS[int(rng.integers(len(_SKINS)))]
    hair = _hair(rng)
    clothes = colour(rng, saturation=(0.1, 0.8), value=(0.1, 0.7))
    cx, cy = width * float(rng.uniform(0.47, 0.53)), height * 0.44
    head_w, head_h = width * float(rng.uniform(0.2, 0.24)), height * float(rng.uniform(0.23, 0.26))

    def ellipse(x: float, y: float, rx: float, ry: float, rgb: Colour, end: int = 360) -> None:
        centre, axes = (round(x), round(y)), (max(1, round(rx)), max(1, round(ry)))
        start = 180 if end == 360 and rgb is hair and ry < 0 else 0
        cv2.ellipse(canvas, centre, axes, 0, start, end, rgb, -1, cv2.LINE_AA)

    long_hair = rng.uniform() < 0.45
    if long_hair:
        ellipse(cx, cy + 0.14 * height, head_w * 1.35, head_h * 1.5, hair)
    ellipse(cx, height * 1.05, width * 0.46, height * 0.33, clothes)
    ellipse(cx, cy + head_h * 1.05, head_w * 0.5, head_h * 0.55, mix(skin, (60, 20, 10), 0.18))
    ellipse(cx, cy - 0.07 * height, head_w * 1.12, head_h * 0.98, hair)
    ellipse(cx, cy + 0.02 * height, head_w, head_h, skin)
    cv2.ellipse(
        canvas,
        (round(cx), round(cy - head_h * 0.45)),
        (max(1, round(head_w * 1.02)), max(1, round(head_h * 0.55))),
        0,
        180,
        360,
        hair,
        -1,
        cv2.LINE_AA,
    )
    dark = (40, 28, 26)
    for sign in (-1, 1):
        ellipse(cx + sign * head_w * 0.4, cy + 0.01 * height, head_w * 0.13, head_h * 0.07, dark)
    ellipse(cx, cy + head_h * 0.32, head_w * 0.1, head_h * 0.1, mix(skin, (80, 30, 20), 0.25))
    ellipse(cx, cy + head_h * 0.6, head_w * 0.32, head_h * 0.06, (168, 84, 80))
    if rng.uniform() < 0.25:
        for sign in (-1, 1):
            place = (round(cx + sign * head_w * 0.42), round(cy + 0.01 * height))
            cv2.circle(canvas, place, max(2, round(head_w * 0.3)), dark, 1, cv2.LINE_AA)
    return canvas


def _hair(rng: np.random.Generator) -> Colour:
    choices: tuple[Colour, ...] = (
        (32, 24, 20),
        (70, 44, 28),
        (120, 76, 40),
        (196, 160, 96),
        (150, 150, 148),
        (130, 52, 24),
    )
    return choices[int(rng.integers(len(choices)))]


def _fields(
    canvas: Image,
    rng: np.random.Generator,
    origin: tuple[float, float],
    size_wh: tuple[float, float],
    ink: Colour,
) -> None:
    """Rows of a small caption and a value, then perhaps a signature."""
    width = canvas.shape[1]
    rows = int(rng.integers(3, 6))
    step = size_wh[1] / rows
    black = (36, 34, 40)
    values = (
        str(rng.choice(LAST_NAMES)),
        str(rng.choice(FIRST_NAMES)),
        f"{rng.integers(1, 29):02d}.{rng.integers(1, 13):02d}.{rng.integers(1950, 2008)}",
        f"{rng.choice(list('ABCDKX'))}{rng.integers(1_000_000, 9_999_999)}",
        str(rng.choice(_COUNTRIES)),
    )
    captions = ("Surname", "Given names", "Date of birth", "Document no.", "Place of birth")
    value_h = min(step * 0.34, 0.042 * width)
    for k in range(rows):
        y = origin[1] + k * step
        if k == rows - 1 and rng.uniform() < 0.5:
            draw_signature(canvas, rng, (origin[0], y + step * 0.5), 0.3 * width, (24, 26, 70))
            return
        write_text(
            canvas,
            captions[k],
            (origin[0], y + value_h * 0.8),
            value_h * 0.6,
            mix(ink, (255, 255, 255), 0.2),
        )
        place = (origin[0], y + value_h * 2.1)
        write_text(canvas, values[k], place, value_h, black, font=1, max_width=size_wh[0])


def _machine_readable_zone(canvas: Image, rng: np.random.Generator, *, light: Colour) -> None:
    height, width = canvas.shape[:2]
    top = round(0.77 * height)
    cv2.rectangle(canvas, (0, top), (width, height), mix(light, (255, 255, 255), 0.7), -1)
    rows = int(rng.integers(2, 4))
    for k in range(rows):
        line = "".join(rng.choice(_MRZ, 30))
        y = top + (k + 0.8) * (height - top) / (rows + 0.3)
        write_text(
            canvas, line, (0.04 * width, y), 0.04 * height, (30, 30, 30), max_width=0.92 * width
        )


def _barcode(
    canvas: Image,
    rng: np.random.Generator,
    origin: tuple[float, float],
    size_wh: tuple[float, float],
) -> None:
    x0, y0 = round(origin[0]), round(origin[1])
    width, height = round(size_wh[0]), round(size_wh[1])
    canvas[y0 : y0 + height, x0 : x0 + width] = (246, 246, 246)
    bars = rng.integers(0, 2, max(8, width // 2)).astype(np.uint8) * 220 + 20
    row = cv2.resize(bars[None], (width, 1), interpolation=cv2.INTER_NEAREST)
    inside = canvas[y0 + 1 : y0 + height - 1, x0 : x0 + width]
    inside[:] = row[:, : inside.shape[1], None]
