"""Exported models, their pages in Chromium, and onnxruntime-web where this machine has it."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from flyweight.core.manifest import Thresholds
from flyweight.core.preprocessing import Preprocessing
from flyweight.web_page.folder import write_folder
from flyweight.web_page.onnxruntime_web import FIX, find_onnxruntime_web
from tests.runtime.conftest import SIDE, colour_model
from tests.web_page.anchor_model import anchor_model

Page = Any
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# A camera without a device and without a question: a test picture that moves.
ARGUMENTS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="session")
def runtime_folder() -> Path:
    """Of onnxruntime-web."""
    found = find_onnxruntime_web()
    if found is None:
        pytest.skip(f"the page runs onnxruntime-web, which is not here: {FIX}")
    return found


@pytest.fixture(scope="session")
def colour_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that finds red, green and blue cells, of pictures that are letterboxed."""
    path = tmp_path_factory.mktemp("models") / "colours.onnx"
    preprocessing = Preprocessing(size_hw=(SIDE, SIDE), resize="letterbox", pad_value=0)
    onnx.save(colour_model(preprocessing=preprocessing, thresholds=Thresholds(score=0.1)), path)
    return path


@pytest.fixture(scope="session")
def anchor_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with random weights, some forty boxes above 0.3 in a picture of noise."""
    path = tmp_path_factory.mktemp("models") / "anchors.onnx"
    onnx.save(anchor_model(), path)
    return path


@pytest.fixture(scope="session")
def detector_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SSDlite of 96 pixels, exported; its weights as training might have left them."""
    from flyweight.export.onnx import export_onnx
    from tests.conftest import build_small
    from tests.export.conftest import lively, settled

    detector = build_small("ssdlite320_mobilenet_v2", size=96)
    settled(lively(detector))  # type: ignore[arg-type]
    path = tmp_path_factory.mktemp("models") / "small.onnx"
    export_onnx(detector, path)
    return path


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Any web host: no headers of its own."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """The address of `folder` on a plain web server."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def make_site(
    runtime_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Path], str]]:
    """Writes the page of a model into a folder under /page and serves it; once a model."""
    with ExitStack() as servers:

        @functools.cache
        def make(model: Path) -> str:
            root = tmp_path_factory.mktemp("site")
            write_folder(model, root / "page", onnxruntime_web=runtime_folder)
            return servers.enter_context(hosted(root)) + "page/"

        yield make


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The machine's Chromium, without a window."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the page is tested with playwright"
    )
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("the page is tested in Chromium, and there is none on this machine")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield started
        started.close()


@contextmanager
def opened(
    browser: Any, address: str, *, prepare: Callable[[Page], object] | None = None, **options: Any
) -> Iterator[Page]:
    """The page once its model runs, or has failed.

    Nothing may go wrong in its console, and no request may leave its origin.

    Args:
        prepare: called with the page before it is loaded.
        options: of the browser's context, such as `viewport`.
    """
    complaints: list[str] = []
    elsewhere: list[str] = []
    origin = "/".join(address.split("/")[:3])

    def asked(request: Any) -> None:
        if not request.url.startswith((origin, "data:", f"blob:{origin}")):
            elsewhere.append(request.url)

    def said(line: Any) -> None:
        if "Policy" in line.text:
            complaints.append(line.text)

    with browser.new_context(**options) as context:
        context.on("request", asked)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", said)
        # Whoever asks only when a chooser is about to open may be too late: Playwright does not
        # wait until the browser has heard of it.
        page.on("filechooser", lambda _: None)
        if prepare is not None:
            prepare(page)
        page.goto(address)
        page.wait_for_selector("body[data-state=ready], body[data-state=failed]")
        yield page
    assert complaints == []
    assert elsewhere == []


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Page]]:
    """`open_page(address, prepare=..., **options)`: see `opened`."""
    with ExitStack() as pages:
        yield lambda *given, **options: pages.enter_context(opened(browser, *given, **options))


@pytest.fixture(scope="module")
def colour_tab(browser: Any, make_site: Callable[[Path], str], colour_file: Path) -> Iterator[Page]:
    """The page of the colour model; most of a test's time would be its start."""
    with opened(browser, make_site(colour_file)) as page:
        yield page


@pytest.fixture
def colour_page(colour_tab: Page) -> Page:
    """The same, as it is at the start, but for the picture that it shows."""
    colour_tab.locator("#threshold").fill("30")
    colour_tab.get_by_role("button", name="All", exact=True).click()
    colour_tab.evaluate("document.activeElement.blur()")
    return colour_tab


@pytest.fixture(scope="module")
def anchor_page(
    browser: Any, make_site: Callable[[Path], str], anchor_file: Path
) -> Iterator[Page]:
    """The page of the model with random weights."""
    with opened(browser, make_site(anchor_file)) as page:
        yield page


@pytest.fixture(scope="session")
def cells() -> np.ndarray:
    """RGB `[96, 96, 3]`, black but for one red cell, a weaker blue and a still weaker green."""
    image = np.zeros((96, 96, 3), np.uint8)
    image[24:48, 48:72, 0] = 255
    image[72:96, 0:24, 2] = 204
    image[0:24, 0:24, 1] = 102
    return image
