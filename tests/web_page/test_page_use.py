"""The page by keyboard, on a phone, in the dark, with a camera; and when something is wrong."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from flyweight.core.image import write_image
from flyweight.web_page.folder import write_folder
from tests.runtime.conftest import colour_model
from tests.web_page.browser_page import DROP, IDLE, PASTE, listed, set_threshold, show
from tests.web_page.conftest import hosted

Page = Any
OpenPage = Callable[..., Page]
MakeSite = Callable[[Path], str]

# Counts how many pictures the worker has at once.
COUNT_WAITING = """
  window.most = 0;
  let waiting = 0;
  const Real = window.Worker;
  window.Worker = function (...given) {
    const worker = new Real(...given);
    const post = worker.postMessage.bind(worker);
    worker.postMessage = (message, transfer) => {
      if (message.task === "detect") window.most = Math.max(window.most, ++waiting);
      post(message, transfer);
    };
    worker.addEventListener("message", ({ data }) => { if (data.result?.boxes) waiting--; });
    return worker;
  };
"""
REFUSE_CAMERA = """() => {
  const refuse = async () => { throw new DOMException("no", "NotAllowedError"); };
  navigator.mediaDevices.getUserMedia = refuse;
}"""


@pytest.fixture
def picture(cells: np.ndarray, tmp_path: Path) -> Path:
    """The cells as a file."""
    path = tmp_path / "cells.png"
    write_image(path, cells)
    return path


def notice(page: Page) -> str:
    """The message on the page."""
    text: str = page.locator("#notice-text").inner_text()
    return text


def has_alpha(page: Page) -> int:
    """How many pixels of the canvas over the picture are drawn on."""
    count: int = page.evaluate("""() => {
      const canvas = document.getElementById("boxes");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, at) => at % 4 === 3 && value > 0).length;
    }""")
    return count


def test_without_a_mouse(colour_tab: Page, picture: Path) -> None:
    """The first in this file: the page has just been opened."""
    page = colour_tab
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Choose a picture"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(picture)
    page.wait_for_selector("canvas[aria-label='cells.png']")
    page.wait_for_selector(IDLE)
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.innerText.trim()")
        )
        if page.evaluate("document.activeElement.id") == "threshold":
            page.keyboard.press("End")
            page.keyboard.press("Home")
            for _ in range(20):
                page.keyboard.press("ArrowRight")
    assert {"Use the camera", "Save picture", "Save boxes", "threshold"} <= {
        "Use the camera" if each == "camera" else each for each in reached
    }
    assert page.locator("#threshold").input_value() == "30"
    before = has_alpha(page)
    page.get_by_role("button", name="blue 0.80 from 0, 72 to 24, 96").focus()
    page.wait_for_timeout(100)
    assert has_alpha(page) > before  # the one that is pointed at is filled
    page.locator("#threshold").focus()
    page.wait_for_timeout(100)
    assert has_alpha(page) == before
    page.locator("#found button").nth(1).hover()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)
    assert has_alpha(page) > before  # its row is pointed at, whatever has changed meanwhile
    assert page.locator("#found button.lit").inner_text().startswith("blue")
    page.get_by_role("checkbox", name="blue").focus()
    page.keyboard.press("Space")
    assert listed(page) == ["red 1.00", "green 0.40"]


def test_nothing_that_axe_complains_about(colour_page: Page, picture: Path) -> None:
    """WCAG 2.2 AA, as far as axe-core can tell."""
    places = [above / "node_modules/axe-core/axe.min.js" for above in Path(__file__).parents]
    named = [Path(os.environ["FLYWEIGHT_AXE_CORE"])] if "FLYWEIGHT_AXE_CORE" in os.environ else []
    found = next((path for path in [*named, *places] if path.is_file()), None)
    if found is None:
        pytest.skip("axe-core is not here: npm install axe-core, or FLYWEIGHT_AXE_CORE=axe.min.js")
    show(colour_page, picture)
    colour_page.evaluate(found.read_text(encoding="utf-8"))
    for scheme in ("light", "dark"):
        colour_page.emulate_media(color_scheme=scheme)
        violations = colour_page.evaluate("axe.run().then((found) => found.violations)")
        assert [(each["id"], each["nodes"][0]["html"]) for each in violations] == []


def test_on_a_phone(
    open_page: OpenPage, make_site: MakeSite, colour_file: Path, picture: Path
) -> None:
    page = open_page(
        make_site(colour_file),
        viewport={"width": 360, "height": 740},
        device_scale_factor=3,
        has_touch=True,
        reduced_motion="reduce",
    )
    for step in ("empty", "with a picture"):
        if step != "empty":
            show(page, picture)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, step
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, ground.removeprefix("rgb(").removesuffix(")").split(",")))
        assert (brightness > 384) == (scheme == "light")
    # as many pixels as the screen has: boxes are crisp
    assert page.evaluate("document.getElementById('boxes').width") == pytest.approx(3 * 332, abs=3)
    small = page.evaluate(
        "[...document.querySelectorAll('button')].filter((each) => each.offsetParent"
        " && each.clientHeight < 24).length"  # WCAG 2.2, 2.5.8
    )
    assert small == 0


def test_the_camera(open_page: OpenPage, make_site: MakeSite, anchor_file: Path) -> None:
    page = open_page(
        make_site(anchor_file), prepare=lambda page: page.add_init_script(COUNT_WAITING)
    )
    set_threshold(page, 0.05)
    page.get_by_role("button", name="Use the camera").first.click()
    page.wait_for_selector("#found li")
    first = listed(page)
    page.wait_for_selector("text=a second")
    page.wait_for_timeout(700)
    assert listed(page) != first  # it goes on looking
    assert page.evaluate("window.most") == 1  # frames are dropped, none waits
    track = page.evaluate_handle("document.getElementById('video').srcObject.getTracks()[0]")
    page.get_by_role("button", name="Stop the camera").click()
    assert track.evaluate("track => track.readyState") == "ended"
    page.wait_for_selector("canvas[aria-label=camera]")  # what it saw last stays, with its boxes
    assert has_alpha(page) > 0
    page.get_by_role("button", name="Use the camera").wait_for()


def test_a_camera_that_is_refused(colour_page: Page, picture: Path) -> None:
    page = colour_page
    show(page, picture)
    page.evaluate(REFUSE_CAMERA)
    page.get_by_role("button", name="Use the camera").click()
    page.locator("#notice").wait_for()
    assert "camera is blocked" in notice(page)
    show(page, picture)
    assert not page.locator("#notice").is_visible()


def test_files_that_are_dropped_and_pasted(colour_page: Page, picture: Path) -> None:
    page = colour_page
    text = base64.b64encode(b"no picture at all").decode()
    content = base64.b64encode(picture.read_bytes()).decode()
    page.evaluate(DROP, [text, "notes.txt", "text/plain"])
    page.locator("#notice").wait_for()
    assert notice(page) == "notes.txt is not a picture that this browser can read."
    # cut off in the middle, and named as a picture
    page.evaluate(DROP, [content[:200], "half.png", "image/png"])
    page.wait_for_selector("text=half.png is not")
    page.evaluate(DROP, [content, "dropped.png", "image/png"])
    page.wait_for_selector("canvas[aria-label='dropped.png']")
    page.wait_for_selector(IDLE)
    assert listed(page) == ["red 1.00", "blue 0.80", "green 0.40"]
    assert not page.locator("#notice").is_visible()
    page.evaluate(PASTE, [content, "pasted.png", "image/png"])
    page.wait_for_selector("canvas[aria-label='pasted.png']")


def test_a_model_that_is_broken(
    open_page: OpenPage, runtime_folder: Path, picture: Path, tmp_path: Path
) -> None:
    """Missing, cut off, of somebody else: said; and "Try again" goes on where it is mended. What a
    stranger calls the classes is text."""
    names = ("<img src=x onerror=alert(1)>", "</li><script>alert(1)</script>", "a&amp;b")
    source = tmp_path / "source.onnx"
    onnx.save(colour_model(class_names=names), source)
    folder = write_folder(source, tmp_path / "page", onnxruntime_web=runtime_folder)
    model = folder / "model.onnx"
    model.unlink()
    with hosted(tmp_path) as address:
        page = open_page(address + "page/")
        failure = page.locator("#failure-text")
        assert "the model is not there (404)" in failure.inner_text()
        again = page.get_by_role("button", name="Try again")
        whole = source.read_bytes()
        for content, words in (
            (whole[: len(whole) // 2], "cut off, or is no ONNX model"),
            (b"", "no Flyweight manifest"),
            (b"<!doctype html><title>gone</title>", "no ONNX model"),
        ):
            model.write_bytes(content)
            again.click()
            page.get_by_text(words).wait_for()
        shutil.copyfile(source, model)
        again.click()
        page.wait_for_selector("body[data-state=ready]")
        show(page, picture)
        found = listed(page)
        assert found == [f"{names[0]} 1.00", f"{names[2]} 0.80", f"{names[1]} 0.40"]
        assert page.locator("main img, main script").count() == 0


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("delete window.WebAssembly", "no WebAssembly"),
        ("window.fetch = async () => { throw new TypeError('gone') }", "config.json"),
    ],
)
def test_a_browser_that_cannot(
    script: str, words: str, open_page: OpenPage, make_site: MakeSite, colour_file: Path
) -> None:
    page = open_page(make_site(colour_file), prepare=lambda page: page.add_init_script(script))
    assert words in page.locator("#failure").inner_text()
    assert not page.locator("#loading").is_visible()
