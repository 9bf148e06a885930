"""A report: one HTML file with everything inside, to be sent by mail and opened anywhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from flyweight.core.files import write_atomically
from flyweight.core.image import encode_image

Image = npt.NDArray[np.uint8]

PICTURE_SIDE = 520
STYLE = """
:root { color-scheme: light; --ink: #1f2937; --soft: #6b7280; --line: #e5e7eb; --tint: #f8fafc;
  --accent: #0b62a4; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
main, header > div, footer { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
header { background: var(--tint); border-bottom: 1px solid var(--line); padding: 36px 0 28px; }
h1 { margin: 0; font-size: 27px; letter-spacing: -0.015em; line-height: 1.25;
  overflow-wrap: anywhere; }
header p { margin: 6px 0 0; color: var(--soft); }
h2 { margin: 44px 0 6px; font-size: 19px; letter-spacing: -0.01em; }
h3 { margin: 32px 0 4px; font-size: 16px; }
.note { margin: 0 0 16px; color: var(--soft); max-width: 78ch; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px;
  margin-top: 24px; }
.figures div { background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; }
.figures b { display: block; font-size: 25px; line-height: 1.2; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums; }
.figures span { color: var(--soft); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr));
  gap: 20px; }
.charts svg { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 8px 12px; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: 13px; border-bottom: 2px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tbody tr:hover { background: var(--tint); }
.bar { display: inline-block; width: 90px; height: 8px; margin-right: 10px; border-radius: 4px;
  background: var(--line); overflow: hidden; vertical-align: middle; }
.bar + span { display: inline-block; min-width: 5ch; }
.bar i { display: block; height: 100%; background: var(--accent); }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr));
  gap: 24px 20px; }
.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 14px 0; font-size: 13px; }
.key i { display: inline-block; width: 11px; height: 11px; margin-right: 6px; border-radius: 3px; }
figure { margin: 0; }
figure div { display: grid; grid-template-columns: 1fr 1fr; gap: 6px; }
figure img { width: 100%; height: auto; display: block; border-radius: 6px; }
figcaption { display: grid; grid-template-columns: 1fr 1fr; gap: 6px; margin-top: 5px;
  color: var(--soft); font-size: 12.5px; overflow-wrap: anywhere; line-height: 1.35; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr));
  gap: 0 32px; margin: 0; }
dl div { display: flex; justify-content: space-between; gap: 16px; padding: 6px 0;
  border-bottom: 1px solid var(--line); }
dt { color: var(--soft); }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
footer { margin: 56px auto 0; padding: 18px 24px 32px; border-top: 1px solid var(--line);
  color: var(--soft); font-size: 13px; }
@media (max-width: 520px) { .bar { display: none; } }
@media print { h2, h3 { break-after: avoid; } figure, .charts svg, tr { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Section:
    """A part of a page: `body` is HTML, the rest is text."""

    title: str
    body: str
    note: str = ""


@dataclass(frozen=True)
class Report:
    """A page.

    Attributes:
        title, subtitle: what the page is about.
        figures: (value, what it is), the few that matter most.
        sections: in order.
    """

    title: str
    subtitle: str = ""
    figures: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = field(default=())


@dataclass(frozen=True)
class Picture:
    """Two drawings of one image side by side: RGB uint8 `[H, W, 3]`, and a line under each."""

    left: Image
    right: Image
    left_text: str
    right_text: str


def write_report(report: Report, path: Path) -> None:
    """Write `report` as one HTML file.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    with write_atomically(path) as temporary:
        temporary.write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """The page as HTML."""
    figures = "".join(
        f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>"
        for value, name in report.figures
    )
    sections = "".join(_section(section) for section in report.sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(report.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header><div>
<h1>{html.escape(report.title)}</h1>
<p>{html.escape(report.subtitle)}</p>
{f'<div class="figures">{figures}</div>' if figures else ""}
</div></header>
<main>{sections}</main>
<footer>Made by Flyweight. Boxes in pixels of the original images; AP between 0 and 1, as COCO
counts it.</footer>
</body>
</html>
"""


def _section(section: Section) -> str:
    note = f'<p class="note">{html.escape(section.note)}</p>' if section.note else ""
    return f"<section><h2>{html.escape(section.title)}</h2>{note}{section.body}</section>\n"


def subsection(title: str, body: str, *, note: str = "") -> str:
    """A titled part of a section's body; `body` is HTML, the rest is text."""
    noted = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return f"<h3>{html.escape(title)}</h3>{noted}{body}"


def charts(svgs: Sequence[str]) -> str:
    """Charts in a grid, as wide as the page allows."""
    return f'<div class="charts">{"".join(svgs)}</div>'


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    bars: Mapping[int, Sequence[float]] | None = None,
) -> str:
    """A table, its first column to the left.

    Args:
        rows: cells as text.
        bars: column number to one share (0 to 1) a row, drawn as a bar before the text.
    """
    bars = bars or {}
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = ""
    for number, row in enumerate(rows):
        cells = ""
        for column, text in enumerate(row):
            cell = html.escape(text)
            if column in bars:
                cell = f"{_bar(bars[column][number])}<span>{cell}</span>"
            cells += f"<td>{cell}</td>"
        body += f"<tr>{cells}</tr>"
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def _bar(share: float) -> str:
    return f'<span class="bar"><i style="width:{100 * min(1.0, max(0.0, share)):.0f}%"></i></span>'


def pictures(
    items: Sequence[Picture],
    *,
    key: Sequence[tuple[str, tuple[int, int, int]]] = (),
    small: bool = False,
) -> str:
    """Pairs of pictures in a grid, three a row if `small`, under a key of (name, RGB colour)."""
    figures = "".join(
        f'<figure><div><img loading="lazy" alt="{html.escape(item.left_text)}" '
        f'src="{_inline(item.left)}"><img loading="lazy" alt="{html.escape(item.right_text)}" '
        f'src="{_inline(item.right)}"></div><figcaption><span>{html.escape(item.left_text)}</span>'
        f"<span>{html.escape(item.right_text)}</span></figcaption></figure>"
        for item in items
    )
    return f'{colour_key(key)}<div class="pairs{" small" if small else ""}">{figures}</div>'


def colour_key(key: Sequence[tuple[str, tuple[int, int, int]]]) -> str:
    """What the colours of drawings stand for: (name, RGB colour)."""
    swatches = "".join(
        f'<span><i style="background:rgb{colour}"></i>{html.escape(name)}</span>'
        for name, colour in key
    )
    return f'<p class="key">{swatches}</p>' if swatches else ""


def settings(values: Mapping[str, Any]) -> str:
    """Names and values, in columns."""
    items = "".join(
        f"<div><dt>{html.escape(str(name))}</dt><dd>{html.escape(_text(value))}</dd></div>"
        for name, value in values.items()
    )
    return f"<dl>{items}</dl>"


def _text(value: Any) -> str:
    if value is None:
        return "by device"
    if isinstance(value, list | tuple):
        return ", ".join(_text(each) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def fit_to(image: Image, side: int = PICTURE_SIDE) -> tuple[Image, float]:
    """RGB uint8 `[H, W, 3]` with its longer side at `side`, and the factor it was scaled by."""
    scale = side / max(image.shape[:2])
    size_wh = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized: Image = cv2.resize(image, size_wh, interpolation=how)  # type: ignore[assignment]
    return resized, scale


def _inline(image: Image) -> str:
    encoded = base64.b64encode(encode_image(image, suffix=".jpg", quality=82)).decode("ascii")
    return f"data:image/jpeg;base64,{encoded}"
