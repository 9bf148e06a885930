"""The page as part of a server: its headers, and its two engines in a browser."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyweight.core.image import write_image
from flyweight.runtime.load import load_predictor
from flyweight.web_page.page_files import page_files
from flyweight.web_page.routes import page_router
from tests.web_page.browser_page import IDLE, saved, set_threshold, show
from tests.web_page.test_page import assert_same

fastapi = pytest.importorskip("fastapi", reason="the server is FastAPI's")
testclient = pytest.importorskip("fastapi.testclient")


@pytest.fixture
def client(colour_file: Path, tmp_path: Path) -> Any:
    """A server with the page, where nothing that resembles onnxruntime-web is but three files."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (folder / name).write_bytes(b"// " + name.encode())
    app = fastapi.FastAPI()
    router = page_router(colour_file, load_predictor(colour_file), onnxruntime_web=folder)
    app.include_router(router)
    return testclient.TestClient(app)


def test_every_file_with_its_headers(client: Any, colour_file: Path) -> None:
    files = {name: path.read_bytes() for name, path in page_files().items()}
    files |= {"model.onnx": colour_file.read_bytes(), "": files.pop("index.html")}
    files["runtime/ort.wasm.min.mjs"] = b"// ort.wasm.min.mjs"
    assert {"page.js", "page.css", "worker.js", "detector/predictor.js"} <= files.keys()
    for name, content in files.items():
        answer = client.get(f"/{name}")
        assert (answer.status_code, answer.content) == (200, content), name
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        kind = answer.headers["content-type"]
        assert kind.startswith("text/javascript") == name.endswith(("js", "mjs")), name
    assert client.get("/").headers["content-type"].startswith("text/html")
    assert client.head("/model.onnx").status_code == 200
    assert client.get("/runtime/ort-wasm-simd-threaded.wasm").headers["content-type"] == (
        "application/wasm"
    )


def test_nothing_else_is_served(client: Any, colour_file: Path) -> None:
    for path in (
        "/../pyproject.toml", "/%2e%2e/routes.py", "/detector/../../routes.py", "/detector/",
        f"/runtime/{colour_file.name}", "/runtime//etc/passwd", "/static/page.js",
    ):  # fmt: skip
        assert client.get(path).status_code == 404, path
    assert client.post("/").status_code == 405
    assert "/page.js" not in client.get("/openapi.json").json()["paths"]


def test_the_engines_there_are(
    client: Any, colour_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = client.get("/config.json").json()
    assert config["engines"] == ["browser", "server"]
    assert config["manifest"]["class_names"] == ["red", "green", "blue"]

    monkeypatch.delenv("FLYWEIGHT_ONNXRUNTIME_WEB", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    predictor = load_predictor(colour_file)
    here: dict[str, Any] = {"onnxruntime_web": tmp_path / "runtime"}
    for path, options in (
        (colour_file, {}),  # onnxruntime-web is nowhere
        (tmp_path / "colours.xml", here),
        (colour_file, here | {"share_model": False}),
    ):
        app = fastapi.FastAPI()
        app.include_router(page_router(path, predictor, **options))
        other = testclient.TestClient(app)
        assert other.get("/config.json").json()["engines"] == ["server"]
        assert other.get("/model.onnx").status_code == 404
        assert other.get("/runtime/ort.wasm.min.mjs").status_code == 404


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The address of an application while uvicorn serves it."""
    uvicorn = pytest.importorskip("uvicorn")
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


def test_both_engines_say_the_same(
    open_page: Callable[..., Any], runtime_folder: Path, anchor_file: Path, tmp_path: Path
) -> None:
    from flyweight.server.app import create_app

    path = tmp_path / "noise.png"
    coarse = np.random.default_rng(1).integers(0, 256, (11, 17, 3), dtype=np.uint8)
    write_image(path, coarse.repeat(20, axis=0).repeat(20, axis=1))
    predictor = load_predictor(anchor_file, threads=1)
    expected = predictor.predict(path, score=0.4)
    with served(create_app(predictor, model_path=anchor_file)) as address:
        page = open_page(f"{address}?threads=2")
        set_threshold(page, 0.4)
        show(page, path)
        assert page.evaluate("crossOriginIsolated")
        assert page.locator("#engine-note").inner_text().endswith("2 threads")
        assert "never leave" in page.locator("#privacy").inner_text()
        assert_same(saved(page)[1], expected, pixels=0.02, score=1e-4)

        page.get_by_text("Server", exact=True).click()
        page.wait_for_selector("text=Runs on the server")
        page.wait_for_selector(IDLE)
        assert page.locator("#times dt").all_inner_texts() == ["Read", "Detect", "Way"]
        # rounded by the server, as `predict --json` rounds
        assert_same(saved(page)[1], expected, pixels=0.02, score=1e-4)
        text = tmp_path / "notes.png"
        text.write_text("no picture")
        page.set_input_files("#file", text)
        page.get_by_text("notes.png is not a picture").wait_for()

    # the server is gone: said on the page, and the browser goes on alone
    page.set_input_files("#file", path)
    page.get_by_text("the server does not answer").wait_for()
