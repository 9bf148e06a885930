"""Paper things on the table of the sample scenes: books, sheets, prints, notes, envelopes."""

from __future__ import annotations

import cv2
import numpy as np

from flyweight.data.scenes.paint import (
    SCRIPT_FONT,
    Colour,
    FlatObject,
    Image,
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

_PAPER: tuple[Colour, ...] = ((250, 250, 248), (246, 242, 230), (238, 242, 248))
_TITLES = (
    "THE RIVER",
    "ATLAS",
    "NOTES",
    "A LIFE",
    "COOKING",
    "Winter",
    "GEOMETRY",
    "Poems",
    "NIGHT",
    "TRAVEL",
)
_WORDS = ("call mum", "milk", "todo", "buy tea", "3 pm", "ideas", "thanks!", "room 12")


def draw_book(rng: np.random.Generator, width: int) -> FlatObject:
    """A closed book: cover with title, spine shade and a picture."""
    height = round(width * float(rng.uniform(0.64, 0.78)))
    base = colour(rng, saturation=(0.2, 0.9), value=(0.25, 0.9))
    cover = gradient((height, width), [base, mix(base, (0, 0, 0), 0.2)], float(rng.uniform(0, 6)))
    # Drawn upright on its side: the spine is the long top edge.
    upright = np.ascontiguousarray(np.rot90(cover))
    tall, wide = upright.shape[:2]
    ink: Colour = (248, 244, 230) if brightness(base) < 140 else (30, 30, 30)
    style = int(rng.integers(3))
    if style == 0:
        other = colour(rng, saturation=(0.4, 0.9), value=(0.4, 1))
        centre = (round(0.55 * wide), round(float(rng.uniform(0.55, 0.7)) * tall))
        cv2.circle(upright, centre, round(0.28 * wide), other, -1, cv2.LINE_AA)
    elif style == 1:
        picture = _landscape(rng, round(0.42 * tall), wide)
        upright[round(0.48 * tall) : round(0.48 * tall) + picture.shape[0]] = picture
    else:
        frame = (round(0.14 * wide), round(0.06 * tall)), (round(0.92 * wide), round(0.94 * tall))
        cv2.rectangle(upright, *frame, ink, max(1, wide // 70), cv2.LINE_AA)
    title = str(rng.choice(_TITLES))
    write_text(
        upright, title, (0.2 * wide, 0.24 * tall), 0.1 * wide, ink, font=1, max_width=0.7 * wide
    )
    cv2.line(
        upright,
        (round(0.2 * wide), round(0.3 * tall)),
        (round(0.6 * wide), round(0.3 * tall)),
        ink,
        1,
    )
    write_text(
        upright, "A. Author", (0.2 * wide, 0.38 * tall), 0.055 * wide, ink, max_width=0.6 * wide
    )
    spine = upright[:, : max(2, round(0.09 * wide))]
    spine[:] = (spine * 0.72).astype(np.uint8)
    face = np.ascontiguousarray(np.rot90(upright, -1))
    return rounded_object(
        face,
        0.012 * width,
        length=float(rng.uniform(1.7, 2.6)),
        thickness=float(rng.uniform(0.1, 0.28)),
        side=(226, 220, 204),
    )


def draw_paper(rng: np.random.Generator, width: int) -> FlatObject:
    """A sheet of paper, printed, ruled or blank."""
    height = round(width / 1.414)
    base = _PAPER[int(rng.integers(len(_PAPER)))]
    sheet = flat((width, height), base)  # upright
    kind = rng.uniform()
    margin = round(0.1 * height)
    ink = (92, 92, 98)
    if kind < 0.5:
        write_text(
            sheet,
            str(rng.choice(_TITLES)),
            (margin, 0.12 * width),
            0.05 * height,
            (40, 40, 44),
            font=1,
        )
        y = 0.18 * width
        while y < 0.92 * width:
            last = rng.uniform() < 0.18
            end = height - margin if not last else round(height * float(rng.uniform(0.4, 0.8)))
            cv2.line(sheet, (margin, round(y)), (end, round(y)), ink, max(1, round(width / 220)))
            y += width * (0.05 if last else 0.026)
    elif kind < 0.8:
        for k in range(4, 30):
            row = round(k * width / 31)
            cv2.line(sheet, (0, row), (height, row), (176, 196, 222), 1)
        cv2.line(sheet, (margin, 0), (margin, width), (226, 140, 140), 1)
        for k in range(int(rng.integers(2, 9))):
            y = (5 + 2 * k) * width / 31
            write_text(
                sheet,
                str(rng.choice(_WORDS)),
                (margin * 1.3, y),
                0.05 * height,
                (36, 44, 110),
                font=SCRIPT_FONT,
            )
    elif kind < 0.9:
        table = [colour(rng, saturation=(0.4, 0.8), value=(0.5, 0.9)) for _ in range(5)]
        for k, bar in enumerate(table):
            top = round(width * float(rng.uniform(0.3, 0.75)))
            x = round(margin + k * 0.16 * height)
            cv2.rectangle(sheet, (x, top), (x + round(0.1 * height), round(0.85 * width)), bar, -1)
    face = np.ascontiguousarray(np.rot90(sheet, -1))
    face = tint(face, fractal_noise(rng, face.shape[:2], 2, octaves=2) * 0.05, (120, 110, 100))
    return rounded_object(
        face, 1, length=float(rng.uniform(2.4, 3.4)), thickness=0.008, side=(230, 230, 226)
    )


def draw_photo(rng: np.random.Generator, width: int) -> FlatObject:
    """A photographic print with a white border: a landscape or a still life."""
    height = round(width * float(rng.uniform(0.64, 0.8)))
    face = flat((height, width), (248, 248, 244))
    edge = max(2, round(0.05 * width * float(rng.uniform(0.7, 1.4))))
    picture = _landscape(rng, height - 2 * edge, width - 2 * edge)
    face[edge : height - edge, edge : width - edge] = picture
    return rounded_object(
        face, 1, length=float(rng.uniform(1.0, 1.8)), thickness=0.01, side=(236, 236, 232)
    )


def draw_note(rng: np.random.Generator, width: int) -> FlatObject:
    """A sticky note with a few words."""
    hue = float(rng.choice((0.14, 0.15, 0.28, 0.55, 0.9)))
    base = colour(rng, hue=hue, saturation=(0.35, 0.7), value=(0.9, 1))
    face = gradient(
        (width, width), [base, mix(base, (255, 255, 255), 0.25)], float(rng.uniform(0, 6))
    )
    for k in range(int(rng.integers(0, 4))):
        place = (0.12 * width, (0.3 + 0.2 * k) * width)
        write_text(
            face,
            str(rng.choice(_WORDS)),
            place,
            0.1 * width,
            (40, 42, 70),
            font=SCRIPT_FONT,
            max_width=0.75 * width,
        )
    return rounded_object(
        face,
        1,
        length=float(rng.uniform(0.7, 0.95)),
        thickness=0.02,
        side=mix(base, (0, 0, 0), 0.2),
    )


def draw_envelope(rng: np.random.Generator, width: int) -> FlatObject:
    """A closed envelope with its flap."""
    height = round(width * float(rng.uniform(0.5, 0.7)))
    base = colour(
        rng, hue=float(rng.uniform(0.05, 0.15)), saturation=(0.02, 0.45), value=(0.75, 0.98)
    )
    face = gradient((height, width), [base, mix(base, (0, 0, 0), 0.08)], 1.5)
    dark = mix(base, (0, 0, 0), 0.22)
    tip = (width // 2, round(0.58 * height))
    cv2.line(face, (0, 0), tip, dark, max(1, width // 150), cv2.LINE_AA)
    cv2.line(face, (width, 0), tip, dark, max(1, width // 150), cv2.LINE_AA)
    return rounded_object(face, 1, length=float(rng.uniform(1.9, 2.6)), thickness=0.02, side=dark)


def _landscape(rng: np.random.Generator, height: int, width: int) -> Image:
    """Sky, sun, hills and a foreground, uint8 `[height, width, 3]`."""
    sky = colour(
        rng, hue=float(rng.choice((0.55, 0.6, 0.07))), saturation=(0.2, 0.6), value=(0.7, 1)
    )
    canvas = gradient((height, width), [sky, mix(sky, (255, 250, 235), 0.6)], np.pi / 2)
    sun = (int(rng.integers(width)), round(float(rng.uniform(0.1, 0.35)) * height))
    cv2.circle(canvas, sun, max(2, height // 12), (255, 244, 200), -1, cv2.LINE_AA)
    hue = float(rng.uniform(0.2, 0.6))
    for k in range(3):
        x = np.linspace(0, width, 9)
        y = height * (0.45 + 0.17 * k) + height * 0.08 * rng.uniform(-1, 1, 9)
        ridge = np.concatenate([np.stack([x, y], 1), [[width, height], [0, height]]]).astype(
            np.int32
        )
        shade = colour(
            rng, hue=hue, saturation=(0.25, 0.6), value=(0.65 - 0.18 * k, 0.75 - 0.18 * k)
        )
        cv2.fillPoly(canvas, [ridge], shade, cv2.LINE_AA)
    return canvas
