"""A server of the model whose answers one can tell by looking at the picture."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from starlette.testclient import TestClient

from flyweight.core.image import encode_image
from flyweight.runtime.load import load_predictor
from flyweight.runtime.predictor import Predictor
from flyweight.server.app import create_app
from flyweight.server.settings import ServerSettings
from tests.runtime.conftest import CELL, CELLS, SIDE, colour_model

HERE = "http://127.0.0.1:8000"


def cells_picture(*cells: tuple[int, int, int], side: int = SIDE) -> np.ndarray:
    """RGB, black but for full red, green or blue (0, 1, 2) in cells `(row, column, colour)`."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    for row, column, colour in cells:
        image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL, colour] = 255
    scale = side // SIDE
    return np.kron(image, np.ones((scale, scale, 1), np.uint8))


def numbered_picture(number: int) -> tuple[bytes, list[float], int]:
    """A PNG unlike those of other numbers below 48; its one box `xyxy`, and its label."""
    cell, colour = number % (CELLS * CELLS), number // (CELLS * CELLS) % 3
    row, column = divmod(cell, CELLS)
    box = [column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL]
    picture = cells_picture((row, column, colour))
    return encode_image(picture, suffix=".png"), [float(side) for side in box], colour


class GatedSession:
    """A session that runs when it is let, and notes the batches that it ran."""

    def __init__(self, session: Any) -> None:
        self.runtime, self.manifest = session.runtime, session.manifest
        self.outputs, self.batch = session.outputs, session.batch
        self.size_hw = session.size_hw
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.failure: Exception | None = None
        self.batches: list[int] = []
        self._session = session

    def run(self, images: np.ndarray) -> tuple[Any, ...]:
        self.entered.set()
        assert self.open.wait(30)
        self.batches.append(len(images))
        if self.failure is not None:
            raise self.failure
        return tuple(self._session.run(images))

    def shut(self) -> None:
        """From now on runs wait until `open` is set."""
        self.open.clear()
        self.entered.clear()
        self.batches.clear()


@pytest.fixture(scope="session")
def colours_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The colour model as .onnx of any batch."""
    path = tmp_path_factory.mktemp("colours") / "colours.onnx"
    onnx.save(colour_model(batch="N"), path)
    return path


@pytest.fixture
def predictor(colours_file: Path) -> Predictor:
    """The colour model, opened."""
    return load_predictor(colours_file, threads=1)


@pytest.fixture
def gated(predictor: Predictor) -> Iterator[GatedSession]:
    """The session that `predictor` runs, with a gate in front; it is open."""
    session = GatedSession(predictor.session)
    predictor.session = session
    yield session
    session.open.set()


@pytest.fixture
def serving(predictor: Predictor) -> Iterator[Callable[..., TestClient]]:
    """`serving(**settings)`: a client of a running application."""
    clients: list[TestClient] = []

    def start(**settings: Any) -> TestClient:
        app = create_app(predictor, ServerSettings(**settings))
        client = TestClient(app, base_url=HERE, raise_server_exceptions=False)
        clients.append(client.__enter__())
        return client

    yield start
    if isinstance(predictor.session, GatedSession):
        predictor.session.open.set()
    for client in clients:
        client.__exit__(None, None, None)


def wait_until(holds: Callable[[], bool], *, seconds: float = 10) -> None:
    """Return as soon as `holds()`."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.005)


def assert_problem(answer: Any, status: int, code: str, *words: str) -> dict[str, Any]:
    """The answer is a refusal of this status and code, whose detail has these words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (problem["status"], problem["code"]) == (status, code), problem
    for word in words:
        assert word in problem["detail"]
    return problem
