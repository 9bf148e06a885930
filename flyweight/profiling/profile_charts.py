"""Drawings of a profile as inline SVG: where the cost is, and what levels see."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flyweight.core.image import encode_image
from flyweight.profiling.level_view import LevelView
from flyweight.reports.charts import INK, SOFT

Image = npt.NDArray[np.uint8]

# From fine to coarse, so that the backbone reads as one thing.
BACKBONE = ("#bcd9ee", "#94c1e2", "#69a5d2", "#3f86bd", "#1d67a2", "#0a4675")
# Told apart by lightness, too, and by those who see no red or no green (Okabe & Ito 2008).
OTHERS = ("#e69f00", "#00795a", "#cc79a7", "#6b5200", "#6b7280", "#f0e442")
BAR = 34  # pixels high

FIELD, ANCHOR, OBJECT = "#d1600a", "#0b62a4", "#14835c"


@dataclass(frozen=True)
class Bar:
    """One bar: what it is of, its whole in words, and of each part its share of it (0 to 1)."""

    name: str
    total: str
    shares: Sequence[float]


def part_colours(names: Sequence[str]) -> list[str]:
    """A colour for each part: shades of one for the stages of the backbone."""
    stages = [name for name in names if name.startswith("backbone")]
    rest = [name for name in names if name not in stages]
    shades = BACKBONE[-len(stages) :] if stages else ()
    colours = {name: shades[min(place, 5)] for place, name in enumerate(stages)}
    colours |= {name: OTHERS[place % len(OTHERS)] for place, name in enumerate(rest)}
    return [colours[name] for name in names]


def stacked_bars(bars: Sequence[Bar], parts: Sequence[str]) -> str:
    """Bars of one length, each cut into the shares of the same parts, as HTML."""
    colours = part_colours(parts)
    drawn = ""
    for bar in bars:
        cuts = zip(parts, colours, bar.shares, strict=True)
        segments = "".join(_segment(name, colour, share) for name, colour, share in cuts)
        drawn += (
            f'<div style="margin-top:12px;line-height:1.3"><b>{html.escape(bar.name)}</b> '
            f'<span style="color:{SOFT};font-size:13px">{html.escape(bar.total)}</span></div>'
            f'<div style="display:flex;height:{BAR}px">{segments}</div>'
        )
    return f'<div role="img" aria-label="cost by stage" style="margin-bottom:20px">{drawn}</div>'


def _segment(name: str, colour: str, share: float) -> str:
    short = name.removeprefix("backbone ").removeprefix("head.")
    ink = "#fff" if _dark(colour) else INK
    # the empty box fills the first line: a label that is too wide goes to a second, unseen one
    return (
        f'<div title="{html.escape(name)}: {100 * share:.1f} %" style="box-sizing:border-box;'
        f"flex:0 0 {100 * share:.2f}%;overflow:hidden;display:flex;flex-wrap:wrap;"
        f"justify-content:center;background:{colour};color:{ink};border-right:1px solid #fff;"
        f'font-size:12px;line-height:{BAR // 2}px;text-align:center"><i style="height:100%"></i>'
        f'<span style="white-space:nowrap;padding:0 2px">{html.escape(short)}<br>'
        f"{100 * share:.0f} %</span></div>"
    )


def _dark(colour: str) -> bool:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140


def field_drawing(
    level: LevelView,
    *,
    size_hw: tuple[int, int],
    picture: Image | None = None,
    object_sides: Sequence[float] = (),
) -> str:
    """What the middle cell of a level sees, to scale, around the whole input.

    Args:
        size_hw: of the input, pixels.
        picture: RGB uint8 `[H, W, 3]` of that size; a plain one if None.
        object_sides: typical sides of objects, pixels, drawn as squares on the same place.
    """
    height, width = size_hw
    margin = 0.4 * max(size_hw)
    span = width + 2 * margin
    rows, columns = level.grid
    x, y = (columns // 2 + 0.5) * width / columns, (rows // 2 + 0.5) * height / rows

    def box(wide: float, high: float, style: str) -> str:
        return (
            f'<rect x="{x - wide / 2:.1f}" y="{y - high / 2:.1f}" width="{wide:.1f}" '
            f'height="{high:.1f}" vector-effect="non-scaling-stroke" {style}/>'
        )

    drawn = _ground(picture, size_hw)
    if level.receptive_field is not None:
        side = level.receptive_field
        style = f'fill="{FIELD}" fill-opacity="0.10" stroke="{FIELD}" stroke-width="2.5" '
        drawn += box(side, side, style + 'stroke-dasharray="8 5"')
    if level.effective_field is not None:
        side = level.effective_field
        drawn += box(
            side, side, f'fill="{FIELD}" fill-opacity="0.22" stroke="{FIELD}" stroke-width="2.5"'
        )
    for object_side in object_sides:
        style = f'fill="none" stroke="{OBJECT}" stroke-width="2.5" stroke-dasharray="2 3"'
        drawn += box(object_side, object_side, style)
    for wide, high in level.anchors_wh:
        drawn += box(wide, high, f'fill="none" stroke="{ANCHOR}" stroke-width="1.6"')
    cell = f'fill="{INK}" fill-opacity="0.3" stroke="{INK}" stroke-width="1.5"'
    drawn += box(width / columns, height / rows, cell)
    title = _title(level)
    text = span / 22
    return (
        f'<svg role="img" aria-label="{html.escape(title[0])}" viewBox="{-margin:.1f} '
        f'{-margin - 3 * text:.1f} {span:.1f} {height + 2 * margin + 3 * text:.1f}">'
        f'<text x="{-margin:.1f}" y="{-margin - 1.7 * text:.1f}" font-size="{text:.1f}" '
        f'font-weight="600" fill="{INK}">{html.escape(title[0])}</text>'
        f'<text x="{-margin:.1f}" y="{-margin - 0.5 * text:.1f}" font-size="{0.85 * text:.1f}" '
        f'fill="{SOFT}">{html.escape(title[1])}</text>'
        f'<svg x="{-margin:.1f}" y="{-margin:.1f}" width="{span:.1f}" '
        f'height="{height + 2 * margin:.1f}" viewBox="{-margin:.1f} {-margin:.1f} {span:.1f} '
        f'{height + 2 * margin:.1f}">{drawn}</svg></svg>'
    )


def _title(level: LevelView) -> tuple[str, str]:
    rows, columns = level.grid
    stride = "" if level.stride is None else f"stride {level.stride}, "
    cells = "1 cell" if rows * columns == 1 else f"{rows}×{columns} cells"
    seen = "sees everything"
    if level.receptive_field is not None:
        seen = f"field {level.receptive_field} px"
    if level.effective_field is not None:
        seen += f", effective {level.effective_field}"
    sides = sorted(float(np.sqrt(w * h)) for w, h in level.anchors_wh)
    boxes = f"anchors {sides[0]:.0f}" if sides else "no anchors"
    if len(sides) > 1:
        boxes += f" to {sides[-1]:.0f} px"
    return f"{stride}{cells}", f"{seen}; {boxes}"


def _ground(picture: Image | None, size_hw: tuple[int, int]) -> str:
    height, width = size_hw
    place = f'x="0" y="0" width="{width}" height="{height}"'
    if picture is None:
        return f'<rect {place} fill="#f1f5f9" stroke="#94a3b8" vector-effect="non-scaling-stroke"/>'
    encoded = base64.b64encode(encode_image(picture, suffix=".jpg", quality=80)).decode("ascii")
    return f'<image {place} href="data:image/jpeg;base64,{encoded}"/>'


def palette_key(names: Sequence[str]) -> list[tuple[str, tuple[int, int, int]]]:
    """What the colours of `stacked_bars` stand for."""
    return [(name, _rgb(colour)) for name, colour in zip(names, part_colours(names), strict=True)]


def field_key(*, effective: bool, objects: bool) -> list[tuple[str, tuple[int, int, int]]]:
    """What the colours of `field_drawing` stand for."""
    seen = "receptive field (dashed)" + (", effective (full line)" if effective else "")
    key = [("the cell", _rgb(INK)), ("its anchors", _rgb(ANCHOR)), (seen, _rgb(FIELD))]
    if objects:
        key.append(("objects (dotted): 10 %, half and 90 % are smaller", _rgb(OBJECT)))
    return key


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
