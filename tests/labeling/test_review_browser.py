"""The page in a real browser, by real keys and a real mouse; the file read by COCO's own tools."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from flyweight.core.image import read_image
from flyweight.labeling.review_store import ReviewStore, open_store
from tests.labeling.review_data import boxes_in, read_labels, serving, write_labels

A, B, C = 0, 1, 2
Page = Any
IDLE = "() => document.body.getAttribute('aria-busy') === 'false'"
# The browser's own way from picture to screen pixels: not the page's.
ON_SCREEN = """([x, y]) => {
  const way = document.getElementById('drawing').getScreenCTM();
  const point = new DOMPoint(x, y).matrixTransform(way);
  return [point.x, point.y];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The machine's Chromium, without a window."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the review page is tested with playwright"
    )
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("the review page is tested in Chromium, and there is none on this machine")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """The COCO file of three pictures in `out`."""
    return write_labels(tmp_path / "out")


@pytest.fixture
def session(labels: Path) -> Iterator[tuple[ReviewStore, str]]:
    """The labels while they are served, and the page's address."""
    with open_store(labels.parents[1]) as store, serving(store) as address:
        yield store, address


@pytest.fixture
def open_page(browser: Any, session: tuple[ReviewStore, str]) -> Iterator[Callable[[], Page]]:
    """Opens the page in another tab each time; nothing may go wrong in its console."""
    complaints: list[str] = []
    elsewhere: list[str] = []
    address = session[1]
    with ExitStack() as tabs:

        def start() -> Page:
            page = tabs.enter_context(browser.new_page(viewport={"width": 1100, "height": 800}))
            page.set_default_timeout(30_000)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "request",
                lambda asked: (
                    None
                    if asked.url.startswith((address, "data:"))
                    else elsewhere.append(asked.url)
                ),
            )
            page.goto(address)
            idle(page)
            return page

        yield start
    assert complaints == []
    assert elsewhere == []


def idle(page: Page) -> None:
    """Wait until every key has done what it does."""
    page.wait_for_function(IDLE)


def press(page: Page, *keys: str) -> None:
    """Type keys as fast as the browser takes them."""
    for key in keys:
        page.keyboard.press(key)
    idle(page)


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From one place of the picture to another, in its pixels."""
    page.mouse.move(*page.evaluate(ON_SCREEN, start))
    page.mouse.down()
    page.mouse.move(*page.evaluate(ON_SCREEN, ((start[0] + end[0]) / 2, end[1])))
    page.mouse.move(*page.evaluate(ON_SCREEN, end))
    page.mouse.up()
    idle(page)


def selected(page: Page) -> str:
    """The chosen box as it is read out."""
    text: str = page.locator("#boxes [aria-selected=true]").get_attribute("aria-label")
    return text


def test_a_whole_review(
    open_page: Callable[[], Page], labels: Path, session: tuple[ReviewStore, str]
) -> None:
    before = boxes_in(labels)
    page = open_page()
    assert page.locator("#name").inner_text() == "sub/b.png"  # the least certain box is its
    assert selected(page) == "Box 1 of 2, cup, score 0.52, threshold 0.50, not decided"
    press(page, "a")
    assert selected(page) == "Box 2 of 2, cup, score 0.30, threshold 0.50, uncertain"
    press(page, "d", " ")
    assert page.locator("#left").inner_text() == "1 done, 2 left"

    assert page.locator("#name").inner_text() == "a.png"
    assert selected(page) == "Box 1 of 2, pen, score 0.70, threshold 0.80, uncertain"
    press(page, "3")
    assert selected(page) == "Box 1 of 2, book, score 0.70, threshold 1.00, fixed"
    press(page, "Tab", "d", "Control+z")
    assert selected(page) == "Box 2 of 2, cup, score 0.95, threshold 0.50, not decided"

    page.reload()
    idle(page)
    assert page.locator("#name").inner_text() == "a.png"
    assert page.locator("#boxes li").count() == 2
    # what was decided goes on: the box that nobody has decided on comes first
    assert selected(page) == "Box 2 of 2, cup, score 0.95, threshold 0.50, not decided"
    drag(page, (24, 22), (30, 28))  # its lower right corner
    drag(page, (15, 15), (20, 14))  # as a whole
    drag(page, (19, 5), (19, 3))  # its upper edge
    press(page, "e", "ArrowRight", "ArrowRight", "Shift+ArrowDown", "Enter")
    page.keyboard.press("c")
    page.get_by_role("textbox", name="Class").wait_for()
    page.keyboard.type("pe")
    press(page, "Enter")
    assert selected(page) == "Box 2 of 2, pen, score 0.95, threshold 0.80, fixed"
    press(page, " ")

    assert page.locator("#name").inner_text() == "c.png"
    press(page, "n")
    drag(page, (60, 50), (40, 12))
    assert selected(page) == "Box 1 of 1, pen, added"
    press(page, " ")
    assert "Every picture is done" in page.locator("#message").inner_text()
    assert page.locator("#left").inner_text() == "all 3 done"

    session[0].fold()
    after = boxes_in(labels)
    ordinary = {name: value for name, value in before[2].items() if name != "uncertain"}
    expected = {
        2: ordinary | {"iscrowd": 0, "category_id": 3, "reviewed": "fixed"},
        3: before[3] | {"reviewed": "accepted"},
        # 4, 6, 24, 22 to 4, 6, 30, 28; 5 to the right and 1 up; the top 2 up; 2 to the right;
        # the lower edge a pixel down
        1: before[1] | {"category_id": 2, "bbox": [11, 3, 26, 25], "reviewed": "fixed"},
        5: {
            "id": 5, "image_id": 3, "category_id": 2, "bbox": [40, 12, 20, 38], "iscrowd": 0,
            "reviewed": "added",
        },
    }  # fmt: skip
    assert after.keys() == expected.keys()
    for number, box in after.items():
        # the mouse stops at whole pixels of the screen, about a tenth of the picture's
        np.testing.assert_allclose(box.pop("bbox"), expected[number].pop("bbox"), atol=0.25)
        expected[number].pop("area", None)
        box.pop("area")
        assert box == expected[number]
    assert [image["reviewed"] for image in read_labels(labels).imgs.values()] == ["done"] * 3


def test_keys_that_are_typed_fast(
    open_page: Callable[[], Page], labels: Path, session: tuple[ReviewStore, str]
) -> None:
    """Each meets the box that it would have met had it waited."""
    page = open_page()
    for key in ("d", "d", " ", "1", "j", "a", "u", "Space"):
        page.keyboard.press(key)
    idle(page)
    session[0].fold()
    assert boxes_in(labels).keys() == {1, 2}
    assert [boxes_in(labels)[number].get("reviewed") for number in (1, 2)] == [None, "fixed"]
    assert page.locator("#name").inner_text() == "c.png"


def test_undo_goes_back_to_its_picture(
    open_page: Callable[[], Page], session: tuple[ReviewStore, str]
) -> None:
    page = open_page()
    press(page, "d", " ", "u")
    assert page.locator("#name").inner_text() == "sub/b.png"
    assert page.locator("#left").inner_text() == "0 done, 3 left"
    press(page, "u")
    assert page.locator("#boxes li").count() == 2
    press(page, "u")
    assert "nothing to take back" in page.locator("#message").inner_text()
    assert session[0].state(B).reviewed is None


def test_two_tabs(
    open_page: Callable[[], Page], labels: Path, session: tuple[ReviewStore, str]
) -> None:
    first, second = open_page(), open_page()
    press(first, "d")
    press(second, "a")
    assert "changed in another tab" in second.locator("#message").inner_text()
    # it shows what the first has left, and decides on that from now on
    assert second.locator("#boxes li").count() == 1
    press(second, "a")
    assert second.locator("#saved").inner_text() == "Saved ✓"
    session[0].fold()
    after = boxes_in(labels)
    assert after.keys() == {1, 2, 4}
    assert after[4]["reviewed"] == "accepted"


def test_a_disk_that_fills(
    open_page: Callable[[], Page],
    labels: Path,
    session: tuple[ReviewStore, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = []
    write = os.pwrite

    def full_once(*given: Any) -> int:
        tries.append(given)
        if len(tries) > 1:
            return write(*given)
        time.sleep(0.4)  # so that all keys are typed by then
        raise OSError(errno.ENOSPC, "No space left on device")

    page = open_page()
    monkeypatch.setattr(os, "pwrite", full_once)
    press(page, "d", "d", " ")
    assert len(tries) == 1
    assert page.locator("#saved").inner_text() == "NOT SAVED"
    assert "the disk is full" in page.locator("#message").inner_text()
    # neither shown as dropped, nor gone on to the next picture
    assert page.locator("#boxes li").count() == 2
    assert page.locator("#name").inner_text() == "sub/b.png"
    press(page, "d")
    assert page.locator("#saved").inner_text() == "Saved ✓"
    assert page.locator("#message").is_hidden()
    session[0].fold()
    assert boxes_in(labels).keys() == {1, 2, 4}


def test_a_review_that_was_ended(browser: Any, labels: Path) -> None:
    with open_store(labels.parents[1]) as store, serving(store) as address:
        page = browser.new_page()
        page.goto(address)
        idle(page)
    # its connection may still be open
    press(page, "d")
    assert page.locator("#saved").inner_text() == "NOT SAVED"
    assert "start it again" in page.locator("#message").inner_text().lower()
    assert page.locator("#boxes li").count() == 2
    page.close()
    assert boxes_in(labels).keys() == {1, 2, 3, 4}


def test_pictures_that_vanish(
    open_page: Callable[[], Page], session: tuple[ReviewStore, str], labels: Path
) -> None:
    images = session[0].folder.images
    (images / "sub" / "b.png").unlink()
    (images / "a.png").write_bytes(b"no picture")
    page = open_page()
    assert "b.png is missing" in page.locator("#missing").inner_text()
    press(page, "d", " ")
    page.get_by_text("a.png cannot be shown").wait_for()
    press(page, "d", " ")
    assert page.locator("#name").inner_text() == "c.png"
    page.locator("#missing").wait_for(state="hidden")
    session[0].fold()
    assert boxes_in(labels).keys() == {1, 4}


def test_zoom(open_page: Callable[[], Page]) -> None:
    """`z` brings the box to half of the picture's place, and back; the wheel keeps its point."""
    page = open_page()
    whole = page.evaluate(ON_SCREEN, (10, 20))
    stage = page.locator("#stage").bounding_box()
    press(page, "j", "z")
    (left, top), (right, bottom) = (page.evaluate(ON_SCREEN, at) for at in ((50, 30), (62, 40)))
    share = max((right - left) / stage["width"], (bottom - top) / stage["height"])
    assert share == pytest.approx(1 / 2.5, abs=0.01)
    assert (left + right) / 2 == pytest.approx(stage["x"] + stage["width"] / 2, abs=1)
    press(page, "z")
    assert page.evaluate(ON_SCREEN, (10, 20)) == pytest.approx(whole, abs=0.01)
    page.mouse.move(*whole)
    page.mouse.wheel(0, -400)
    page.wait_for_function(f"([x]) => ({ON_SCREEN})([11, 20])[0] - x > 15", arg=whole)
    assert page.evaluate(ON_SCREEN, (10, 20)) == pytest.approx(whole, abs=1)


def test_a_photo_that_lies_on_its_side(
    browser: Any, labels: Path, session: tuple[ReviewStore, str], tmp_path: Path
) -> None:
    """EXIF's rotation is applied, as where boxes were found: the boxes fit what is seen."""
    upright = np.zeros((80, 60, 3), np.uint8)
    upright[:40] = (250, 20, 20)
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    path = session[0].folder.images / "c.jpg"
    PillowImage.fromarray(np.rot90(upright)).save(path, exif=exif, quality=95)
    np.testing.assert_allclose(read_image(path)[10, 30], upright[10, 30], atol=8)
    session[0].images[C] |= {"file_name": "c.jpg", "width": 60, "height": 80}
    page = browser.new_page(viewport={"width": 900, "height": 700})
    page.goto(session[1] + f"#{C}")
    idle(page)
    page.locator("#missing").wait_for(state="hidden")  # "Loading …"
    page.screenshot(path=tmp_path / "seen.png")
    seen = read_image(tmp_path / "seen.png")
    for y, expected in ((10, (250, 20, 20)), (70, (0, 0, 0))):
        for x in (5, 55):
            column, row = map(round, page.evaluate(ON_SCREEN, (x, y)))
            np.testing.assert_allclose(seen[row, column], expected, atol=12)
    page.close()


def test_without_eyes_or_mouse(open_page: Callable[[], Page]) -> None:
    """Tab leaves the picture after its last box; every control has a name; boxes are read out."""
    page = open_page()
    press(page, "Tab")
    assert selected(page).startswith("Box 2 of 2")
    assert page.locator("#spoken").text_content() == selected(page)
    press(page, "Tab")
    focused = "document.activeElement.closest('[data-command]')?.dataset.command"
    assert page.evaluate(focused) == "accept"
    press(page, "Enter")  # of the button: once, not once more by the key
    assert selected(page) == "Box 1 of 2, cup, score 0.52, threshold 0.50, not decided"
    for button in page.get_by_role("button").all():
        assert button.inner_text() or button.get_attribute("aria-label")
    names = page.get_by_role("toolbar").get_by_role("button")
    assert names.count() == 10
    assert page.get_by_role("button", name="Picture done").count() == 1


def test_light_dark_and_narrow(open_page: Callable[[], Page]) -> None:
    """The ground follows the system, text stands out from it (WCAG 4.5 : 1), nothing is cut off."""
    page = open_page()
    for scheme, ink_is_darker in (("light", True), ("dark", False)):
        page.emulate_media(color_scheme=scheme)
        for where in ("body", "footer", "button.first", "#left"):
            ink, ground = page.evaluate(COLOURS, where)
            light, dark = max(ink, ground), min(ink, ground)
            assert (light + 0.05) / (dark + 0.05) > 4.5, (scheme, where)
        ink, ground = page.evaluate(COLOURS, "body")
        assert (ink < ground) == ink_is_darker
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("#stage").bounding_box()["height"] > 300


# Relative luminances of an element's text and of what is behind it (WCAG 2.2, definitions).
COLOURS = """(where) => {
  const luminance = (text) => text.match(/[0-9.]+/g).slice(0, 3)
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
  let element = document.querySelector(where);
  const ink = luminance(getComputedStyle(element).color);
  const clear = (each) => /^rgba.*, 0\\)$/.test(getComputedStyle(each).backgroundColor);
  while (clear(element)) element = element.parentElement;
  return [ink, luminance(getComputedStyle(element).backgroundColor)];
}"""
