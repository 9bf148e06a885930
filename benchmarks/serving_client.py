"""A client of `flyweight serve` that costs next to nothing: ready requests, raw sockets."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flyweight.runtime.load import load_predictor

SCORE = 0.3
# Batched, a network's floats are added in another order.
BOX_PX, SCORE_ERROR = 0.01, 1e-4
# A machine that is paused for a measurement must not look like a server that is slow.
TIMEOUT_S = 900


@dataclass(frozen=True)
class Question:
    """A request as bytes, and what is in its pictures.

    Attributes:
        expected: for each picture boxes `[N, 4]` xyxy and scores `[N]`; None where the request has
            to be refused.
    """

    data: bytes
    expected: list[tuple[np.ndarray, np.ndarray]] | None

    def is_answered_by(self, status: int, body: bytes) -> bool:
        """Whether this is the answer to this request and to no other."""
        if self.expected is None:
            return status == 422
        if status != 200:
            return False
        images = json.loads(body)["images"]
        return len(images) == len(self.expected) and all(
            same(image, *expected) for image, expected in zip(images, self.expected, strict=True)
        )


def same(image: dict[str, Any], boxes: np.ndarray, scores: np.ndarray) -> bool:
    """Whether an answer has these boxes; those scored next to the threshold may be missing."""
    found = np.array(image["boxes_xyxy"], np.float32).reshape(-1, 4)
    count = min(len(found), len(boxes))
    beyond = [*image["scores"][count:], *scores[count:].tolist()]
    return (
        all(abs(score - SCORE) < SCORE_ERROR for score in beyond)
        and np.allclose(found[:count], boxes[:count], atol=BOX_PX)
        and np.allclose(image["scores"][:count], scores[:count], atol=SCORE_ERROR)
    )


@contextlib.contextmanager
def server(model: Path, options: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The port and the process id of `flyweight serve`; it has to end with 0."""
    words = [sys.executable, "-m", "flyweight", "serve", str(model), "--port", "0", "--json"]
    words += ["--timeout-s", str(TIMEOUT_S)]
    with subprocess.Popen([*words, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        yield port, process.pid
        process.terminate()
        assert process.wait(30) == 0


def expectations(
    model: Path, pictures: list[bytes], runtime: str | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Boxes and scores that the Python predictor finds in each picture."""
    predictor = load_predictor(model, threads=1, runtime=runtime)
    prepared = [predictor.prepare(data) for data in pictures]
    found = [predictor.run([each], scores=[SCORE])[0] for each in prepared]
    return [(each.boxes_xyxy, each.scores) for each in found]


def form(
    pictures: Sequence[bytes], expected: list[tuple[np.ndarray, np.ndarray]] | None
) -> Question:
    """The request that `curl -F` would send."""
    head = 'Content-Disposition: form-data; name="f"; filename="f.jpg"'
    parts = [f"--b\r\n{head}\r\n\r\n".encode() + data + b"\r\n" for data in pictures]
    return question("multipart/form-data; boundary=b", b"".join(parts) + b"--b--\r\n", expected)


def in_json(
    pictures: Sequence[bytes], expected: list[tuple[np.ndarray, np.ndarray]] | None
) -> Question:
    """The same pictures as base64."""
    images = [{"data": base64.b64encode(data).decode()} for data in pictures]
    return question("application/json", json.dumps({"images": images}).encode(), expected)


def question(content_type: str, body: bytes, expected: Any) -> Question:
    """A request for boxes."""
    head = (
        f"POST /v1/detect?score={SCORE} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Question(head.encode() + body, expected)


class Connection:
    """A kept connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = self._connect()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, data: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Where the machine was paused for longer than the server keeps a silent connection, it is
        made anew once, as every client does.
        """
        try:
            return self._ask(data)
        except ConnectionError:
            self._socket.close()
            self._socket = self._connect()
            return self._ask(data)

    def send(self, data: bytes) -> None:
        """Send, and wait for nothing."""
        self._socket.sendall(data)

    def _connect(self) -> socket.socket:
        connected = socket.create_connection(("127.0.0.1", self._port))
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected

    def _ask(self, data: bytes) -> tuple[int, bytes]:
        self._socket.sendall(data)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        while len(body) < length:
            body += self._receive()
        return int(head[9:12]), body

    def _receive(self) -> bytes:
        part = self._socket.recv(1 << 16)
        if not part:
            raise ConnectionError("the server closed the connection")
        return part


def metrics(port: int) -> str:
    """What Prometheus would get."""
    with Connection(port) as connection:
        return connection.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")[1].decode()
