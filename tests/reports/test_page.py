from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from flyweight.reports.charts import Line, line_chart
from flyweight.reports.page import Report, Section, fit_to, render, settings, table
from tests.html_page import Page


def test_chart_shows_its_points() -> None:
    svg = line_chart(
        [Line("a", [1, 2, 3], [1, 4, 9]), Line("b & c", [1], [2]), Line("_$d$", [1], [3])],
        title="Loss", x_label="epoch", marked_x=2, marked_label="best",
    )  # fmt: skip
    root = ElementTree.fromstring(svg)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for word in ("Loss", "epoch", "best", "a", "b & c", "\u200b_$d$"):
        assert word in words
    assert root.get("viewBox")
    assert root.get("width") is None


def test_text_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    page = render(
        Report(
            evil,
            evil,
            [(evil, evil)],
            [Section(evil, table((evil,), [(evil,)]) + settings({evil: evil}), evil)],
        )
    )
    assert Page(page).all("script") == []


@pytest.mark.parametrize(("height", "width"), [(100, 300), (1500, 40)])
def test_pictures_are_fitted(height: int, width: int) -> None:
    image, scale = fit_to(np.zeros((height, width, 3), np.uint8), 200)
    assert max(image.shape[:2]) == 200
    assert scale == 200 / max(height, width)
