"""A real process with real connections: it starts, it stops, and nobody can hold it up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flyweight.core.errors import InputError
from flyweight.runtime.predictor import Predictor
from flyweight.server.app import create_app
from flyweight.server.serve import address, is_loopback, listen, run
from flyweight.server.settings import ServerSettings
from tests.server.conftest import GatedSession, numbered_picture, wait_until

FORM_HEAD = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'


@contextlib.contextmanager
def process(file: Path, *options: str, **environment: str) -> Iterator[tuple[Any, Any]]:
    """`flyweight serve FILE OPTIONS`: the process, and what it said when it was ready."""
    words = [sys.executable, "-m", "flyweight", "serve", str(file), "--port", "0", "--json"]
    started = subprocess.Popen(
        [*words, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        assert line, started.communicate()[1]
        yield started, json.loads(line)
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate()


@contextlib.contextmanager
def in_a_thread(app: Any, **options: Any) -> Iterator[str]:
    """The address of a server in this process; stopped as by SIGTERM in the end."""
    listening = listen("127.0.0.1", 0)
    times = {"idle_s": 30.0, "grace_s": 10.0} | options
    thread = threading.Thread(target=run, args=(app, listening), kwargs=times)
    url = address(listening)
    thread.start()
    try:
        yield url
    finally:
        app.state.lifetime.stopping = True
        thread.join(20)
        assert not thread.is_alive()


def half_a_request(url: str, data: bytes) -> tuple[socket.socket, bytes]:
    """A connection on which half of a request has been sent, and the other half."""
    body = FORM_HEAD + data + b"\r\n--x--\r\n"
    host, port = url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/detect HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(head.encode() + body[:100])
    return connection, body[100:]


def rest_of(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    connection.close()
    return b"".join(parts)


def assert_nothing_written(folder: Path) -> None:
    """But what ONNX Runtime leaves where files of temporary use go, whenever it is imported."""
    assert {path.name for path in folder.iterdir()} <= {".ses"}


def test_sigterm_finishes_what_was_accepted(colours_file: Path, tmp_path: Path) -> None:
    data, box, _ = numbered_picture(9)
    with process(colours_file, TMPDIR=str(tmp_path)) as (server, said):
        assert said["port"] == int(said["url"].rpartition(":")[2])
        assert (said["model"], said["runtime"]) == (str(colours_file), "onnxruntime")
        answer = httpx.post(said["url"] + "/v1/detect", files={"f": data})
        assert answer.json()["images"][0]["boxes_xyxy"] == [box]
        with open(f"/proc/{server.pid}/maps", encoding="utf-8") as maps:
            assert "torch" not in maps.read()
        connection, rest = half_a_request(said["url"], data)
        time.sleep(0.2)  # it has arrived
        server.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(said["url"] + "/health").status_code == 503)
        refused = httpx.post(said["url"] + "/v1/detect", files={"f": data})
        assert (refused.status_code, refused.json()["code"]) == (503, "stopping")
        assert refused.headers["retry-after"] == "5"
        connection.sendall(rest)
        content = rest_of(connection)
        assert content.startswith(b"HTTP/1.1 200")
        assert json.loads(content.partition(b"\r\n\r\n")[2])["images"][0]["boxes_xyxy"] == [box]
        out, err = server.communicate(timeout=20)
        assert server.returncode == 0, err
        assert out == ""
        assert "Traceback" not in err
    assert_nothing_written(tmp_path)


def test_sigkill_loses_nothing(colours_file: Path, tmp_path: Path) -> None:
    """Nothing is written, so nothing can be lost: the same file serves again at once."""
    before = colours_file.read_bytes()
    data, box, _ = numbered_picture(2)
    key = {"X-API-Key": "secret"}
    for end in (signal.SIGKILL, signal.SIGINT):
        environment = {"TMPDIR": str(tmp_path), "FLYWEIGHT_API_KEY": "secret"}
        with process(colours_file, **environment) as (server, said):
            assert said["needs_key"]
            files = [("f", (str(index), data)) for index in range(16)]
            assert httpx.post(said["url"] + "/v1/detect", files=files).status_code == 401
            answer = httpx.post(said["url"] + "/v1/detect", files=files, headers=key)
            assert [image["boxes_xyxy"] for image in answer.json()["images"]] == [[box]] * 16
            if end is signal.SIGKILL:
                connection, _ = half_a_request(said["url"], data)
                connection.close()
            server.send_signal(end)
            assert server.wait(20) == (-signal.SIGKILL if end is signal.SIGKILL else 0)
    assert_nothing_written(tmp_path)
    assert colours_file.read_bytes() == before


def test_the_grace_ends(predictor: Predictor, gated: GatedSession) -> None:
    """Work that does not end does not keep the process."""
    app = create_app(predictor)
    with in_a_thread(app, grace_s=0.3) as url:
        gated.shut()
        connection, rest = half_a_request(url, numbered_picture(0)[0])
        connection.sendall(rest)
        assert gated.entered.wait(10)
        start = time.monotonic()
        app.state.lifetime.stopping = True
        with contextlib.suppress(ConnectionError):
            assert not rest_of(connection).startswith(b"HTTP/1.1 200")
    assert time.monotonic() - start < 10
    gated.open.set()


def test_connections_without_a_request_are_closed(predictor: Predictor) -> None:
    """Silence, half of the headers, and one byte after another; busy ones stay."""
    with in_a_thread(create_app(predictor), idle_s=0.4) as url:
        host, port = url.removeprefix("http://").split(":")
        silent = socket.create_connection((host, int(port)), timeout=10)
        half = socket.create_connection((host, int(port)), timeout=10)
        half.sendall(b"GET /health HTTP/1.1\r\nHost: 127")
        slow = socket.create_connection((host, int(port)), timeout=10)
        with httpx.Client() as busy:
            ports = set()
            for letter in b"GET /health HTTP/1.1":
                with contextlib.suppress(ConnectionError):
                    slow.sendall(bytes([letter]))
                answer = busy.get(url + "/health")
                stream = answer.extensions["network_stream"]
                ports.add(stream.get_extra_info("client_addr")[1])
                time.sleep(0.05)
        assert len(ports) == 1
        for connection in (silent, half, slow):
            with contextlib.suppress(ConnectionError), connection:
                assert connection.recv(100) == b""


def test_a_client_that_leaves_gives_its_place_back(
    predictor: Predictor, gated: GatedSession
) -> None:
    """Its pictures are dropped from the queue without being run."""
    with in_a_thread(create_app(predictor, ServerSettings(queue=3, max_pictures=3))) as url:
        gated.shut()
        data = numbered_picture(0)[0]
        connections = []
        for _ in range(3):
            connection, rest = half_a_request(url, data)
            connection.sendall(rest)
            connections.append(connection)
            assert gated.entered.wait(10)
        wait_until(lambda: httpx.get(url + "/health").json()["queue"] == 3)
        for connection in connections:
            connection.close()
        # What is in the network cannot be called back.
        wait_until(lambda: httpx.get(url + "/health").json()["queue"] == 1)
        gated.open.set()
        wait_until(lambda: httpx.get(url + "/health").json()["queue"] == 0)
        assert sum(gated.batches) == 1


def test_a_client_that_leaves_while_it_sends(
    predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing went wrong here: neither a failure in the metrics nor a line in the log."""
    with in_a_thread(create_app(predictor)) as url:
        for _ in range(3):
            half_a_request(url, numbered_picture(0)[0])[0].close()
        wait_until(lambda: 'status="499"} 3.0' in httpx.get(url + "/metrics").text)
        assert 'status="500"' not in httpx.get(url + "/metrics").text
    assert caplog.text == ""


def test_headers_without_end_are_refused(predictor: Predictor) -> None:
    with in_a_thread(create_app(predictor)) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
            with contextlib.suppress(ConnectionError):
                for _ in range(100):
                    connection.sendall(b"a" * 10_000)
                    time.sleep(0.001)
            with contextlib.suppress(ConnectionError):
                assert connection.recv(100).startswith(b"HTTP/1.1 400")
        assert httpx.get(url + "/health").status_code == 200


def test_answers_are_not_held_back(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nagle's algorithm is off on the connections that the event loop makes."""
    nodelay = []
    real = socket.socket.setsockopt

    def note(self: socket.socket, level: int, name: int, *value: Any) -> None:
        nodelay.append((level, name, *value) == (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1))
        real(self, level, name, *value)

    monkeypatch.setattr(socket.socket, "setsockopt", note)
    with in_a_thread(create_app(predictor)) as url:
        host, port = url.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)))
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert rest_of(connection).startswith(b"HTTP/1.1 200")
    assert any(nodelay)


def test_addresses() -> None:
    with listen("127.0.0.1", 0) as first:
        assert is_loopback(first)
        assert address(first) == f"http://127.0.0.1:{first.getsockname()[1]}"
        with pytest.raises(InputError, match="cannot be listened on: address already in use"):
            listen("127.0.0.1", first.getsockname()[1])
    with listen("0.0.0.0", 0) as everywhere:
        assert not is_loopback(everywhere)
    with pytest.raises(InputError, match="cannot be listened on"):
        listen("192.0.2.1", 0)
    with pytest.raises(InputError, match="cannot be listened on"):
        listen("no.such.name.invalid", 0)
