"""Names from strangers' files on their way to a terminal, a page, a picture or a path."""

from __future__ import annotations

import html.parser
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flyweight.cli.output import Printable
from flyweight.core.drawing import draw_boxes
from flyweight.core.printable import check_class_names, printable, printable_json, printable_output
from flyweight.reports.page import Report, Section, render, table
from tests.security.conftest import Attack

PACKAGE = Path(__file__).parents[2] / "flyweight"
OWNING = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
MARKUP = '<img src=x onerror="alert(1)">[/bold][link=http://x]'


def test_control_characters_are_spelled_out() -> None:
    assert printable("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\x0ac"
    assert printable("é ß 漢字 👩\u200d🔬 می\u200cخواهم") == "é ß 漢字 👩\u200d🔬 می\u200cخواهم"
    assert printable_output("\x1b[1mbold\x1b[0m\n\tx\x1b]0;t\x07") == (
        "\x1b[1mbold\x1b[0m\n\tx\\x1b]0;t\\x07"
    )
    text = json.dumps({"a": OWNING + "\ud800"}, ensure_ascii=False)
    assert json.loads(printable_json(text)) == json.loads(text)
    assert printable_json(text).isprintable()


def test_a_file_name_that_writes_to_the_terminal(
    refused: Attack, bounded: Attack, colours: Path, tmp_path: Path, picture: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / f"{OWNING}.png").write_bytes(b"none")
    refused("predict", colours, folder, says="\\x1b]0;owned")
    (folder / f"{OWNING}.png").write_bytes(picture.read_bytes())
    for words in (("--json",), ()):
        ended = bounded("predict", colours, folder, *words)
        assert ended.code == 0, ended
        assert set(re.findall(r"[^\n -\U0010ffff]|[\x7f-\x9f\u202e]", ended.said)) == set()


def test_file_names_that_are_no_text(
    bounded: Attack, colours: Path, tmp_path: Path, picture: Path
) -> None:
    """Bytes that are no UTF-8, as old archives have them."""
    (tmp_path / "pictures").mkdir()
    Path(tmp_path / "pictures" / "caf\udce9.png").write_bytes(picture.read_bytes())
    for words in (("--json",), ()):
        ended = bounded("predict", colours, tmp_path / "pictures", *words)
        assert ended.code == 0, ended


def test_class_names_that_are_markup(
    bounded: Attack, coco: Callable[..., Path], tmp_path: Path
) -> None:
    """They are text: rich once took `[/bold]` for the end of something, and failed."""
    root = coco(categories=[{"id": 1, "name": MARKUP}])
    out = tmp_path / "out"
    for words in (
        ("stats", root),
        ("check", root),
        ("convert", root, "--to", "yolo", "--out", out),
    ):
        ended = bounded("data", *words)
        assert ended.code in (0, 1), ended
        assert "Traceback" not in ended.said
        assert "unexpected" not in ended.said
    assert "onerror" in ended.said


class Tags(html.parser.HTMLParser):
    """Names of the elements, and of the attributes that run something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag, *(name for name, _ in attrs if name.startswith("on"))]


def test_names_in_reports_are_text() -> None:
    body = table(["class", MARKUP], [[MARKUP, "0.5"]])
    page = render(Report(MARKUP, MARKUP, sections=[Section(MARKUP, body, MARKUP)]))
    tags = Tags()
    tags.feed(page)
    assert "onerror" in page
    assert not {"img", "onerror"} & set(tags.found)


def test_pages_make_no_html_of_what_they_are_sent() -> None:
    """The page of `serve` and that of `label --review` set texts, never markup."""
    scripts = [path for path in PACKAGE.rglob("*") if path.suffix in (".js", ".mjs", ".html")]
    assert len(scripts) >= 4
    sinks = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
    )
    assert [path for path in scripts if sinks.search(path.read_text(encoding="utf-8"))] == []


def test_drawn_names_stay_in_the_picture() -> None:
    """A name of a thousand letters, or of ones that the font has not."""
    image = np.zeros((40, 60, 3), np.uint8)
    box = np.array([[2, 20, 30, 38]], np.float32)
    for name in ("x" * 1000, MARKUP, "漢字", "%s%n"):
        drawn = draw_boxes(image, box, np.zeros(1, np.int64), [name])
        assert drawn.shape == image.shape
        assert drawn.any()


def test_names_that_are_refused() -> None:
    for name in (OWNING, "a\nb", "a\tb", "x" * 2000, "\ud800", "a\u2028b"):
        with pytest.raises(Exception, match="a class is called"):
            check_class_names([name], "here")
    check_class_names(["a b", "漢字", "👩\u200d🔬", MARKUP], "here")
    with pytest.raises(Exception, match="65537 classes"):
        check_class_names(map(str, range(65_537)), "here")


def test_the_terminal_sees_colours_alone(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    from rich.console import Console

    console = Console(file=Printable(sys.stdout), force_terminal=True, markup=False)  # type: ignore[arg-type]
    console.print(OWNING + MARKUP, style="bold")
    shown = capsys.readouterr().out
    assert "\x1b[1m" in shown
    assert "\x1b]" not in shown
    assert "\x9b" not in shown
