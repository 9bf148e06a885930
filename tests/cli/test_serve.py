"""`flyweight serve`: what it refuses before it listens for long. Its life is in tests/server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from flyweight.cli import serve as verb
from flyweight.server import serve as server
from tests.runtime.conftest import colour_model

Run = Callable[..., Any]


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A small .onnx file."""
    onnx.save(colour_model(), tmp_path / "colours.onnx")
    return tmp_path / "colours.onnx"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The applications that would have been run."""
    apps: list[Any] = []

    def run(app: Any, listening: socket.socket, **_: Any) -> None:
        apps.append(app)
        listening.close()

    monkeypatch.setattr(server, "run", run)
    monkeypatch.delenv(verb.KEY_VARIABLE, raising=False)
    return apps


def test_ready(flyweight: Run, colours: Path, started: list[Any]) -> None:
    told = flyweight("serve", colours, "--port", "0", "--workers", "1", "--json")
    said = told.json
    assert said | {"port": 0, "url": ""} == {
        "url": "", "host": "127.0.0.1", "port": 0, "model": str(colours), "batch": 1,
        "runtime": "onnxruntime", "threads": 1, "workers": 1, "needs_key": False,
    }  # fmt: skip
    assert said["url"] == f"http://127.0.0.1:{said['port']}"
    assert len(started) == 1
    for_people = flyweight("serve", colours, "--port", "0")
    assert "at http://127.0.0.1:" in for_people.out


def test_a_missing_model(flyweight: Run, tmp_path: Path, started: list[Any]) -> None:
    flyweight("serve", tmp_path / "no.onnx", "--port", "0").assert_refused("does not exist")
    assert not started


def test_a_checkpoint(flyweight: Run, tmp_path: Path, started: list[Any]) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"any")
    refused = flyweight("serve", tmp_path / "best.safetensors", "--port", "0")
    refused.assert_refused("not an exported model", "flyweight export")


def test_a_taken_port(flyweight: Run, colours: Path, started: list[Any]) -> None:
    with server.listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        flyweight("serve", colours, "--port", port).assert_refused(port, "already in use")
    assert not started


def test_beyond_this_machine(
    flyweight: Run, colours: Path, tmp_path: Path, started: list[Any]
) -> None:
    words = ["serve", colours, "--port", "0", "--host", "0.0.0.0"]
    flyweight(*words).assert_refused("--host", "--api-key-file", "--allow-anyone")
    assert not started
    warned = flyweight(*words, "--allow-anyone")
    assert (warned.code, len(started)) == (0, 1)
    assert "warning: no API key is asked for" in warned.err
    keys = tmp_path / "keys"
    keys.write_text("one\n\n two \n")
    told = flyweight(*words, "--api-key-file", keys, "--json")
    assert told.json["needs_key"]
    assert "warning" not in told.err


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(verb.KEY_VARIABLE, raising=False)
    assert verb.read_keys(None) == ()
    keys = tmp_path / "keys"
    keys.write_text("one\n\n two \n")
    assert verb.read_keys(keys) == ("one", "two")
    monkeypatch.setenv(verb.KEY_VARIABLE, " three ")
    assert verb.read_keys(None) == ("three",)


@pytest.mark.parametrize("content", [None, b"", b" \n\n", b"\xff\xfe"])
def test_no_keys(
    flyweight: Run, colours: Path, tmp_path: Path, started: list[Any], content: bytes | None
) -> None:
    keys = tmp_path / "keys"
    if content is not None:
        keys.write_bytes(content)
    flyweight("serve", colours, "--api-key-file", keys).assert_refused("key", str(keys))
    assert not started


def test_an_empty_variable(
    flyweight: Run, colours: Path, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(verb.KEY_VARIABLE, " ")
    flyweight("serve", colours).assert_refused(verb.KEY_VARIABLE)


@pytest.mark.parametrize(
    "words",
    [["--max-pixels", "999999999999"], ["--port", "70000"], ["--queue", "0"], ["--batch", "0"]],
)
def test_numbers(flyweight: Run, colours: Path, started: list[Any], words: list[str]) -> None:
    options = words if "--port" in words else [*words, "--port", "0"]
    flyweight("serve", colours, *options).assert_refused("")
    assert not started
