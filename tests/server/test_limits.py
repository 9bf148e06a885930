"""What no well-behaved client does: bodies without a length, without an end, or byte by byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from flyweight.core.errors import InputError
from flyweight.runtime.predictor import Predictor
from flyweight.server.app import create_app
from flyweight.server.settings import ServerSettings
from tests.server.conftest import numbered_picture

Chunks = Callable[[], AsyncIterator[bytes]]
FORM = (b"content-type", b"multipart/form-data; boundary=x")
HEAD = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'


async def ask(app: Any, chunks: AsyncIterator[bytes], header: tuple[bytes, bytes]) -> Any:
    """The status and the JSON that `app` answers to a chunked body."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        async for chunk in chunks:
            return {"type": "http.request", "body": chunk, "more_body": chunk != b""}
        await asyncio.Event().wait()  # the client stays
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": "/v1/detect", "raw_path": b"/v1/detect", "query_string": b"",
        "root_path": "", "headers": [(b"host", b"127.0.0.1:80"), header],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip
    await asyncio.wait_for(app(scope, receive, send), 20)
    return sent[0]["status"], json.loads(b"".join(each.get("body", b"") for each in sent[1:]))


async def parts(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def test_a_chunked_form(predictor: Predictor) -> None:
    data, box, _ = numbered_picture(6)
    body = HEAD + data + b"\r\n--x--\r\n"
    pieces = [body[start : start + 7] for start in range(0, len(body), 7)]
    status, answer = asyncio.run(ask(create_app(predictor), parts(*pieces, b""), FORM))
    assert (status, answer["images"][0]["boxes_xyxy"]) == (200, [box])


@pytest.mark.parametrize("header", [FORM, (b"content-type", b"application/json")])
def test_a_body_without_end_is_left(predictor: Predictor, header: tuple[bytes, bytes]) -> None:
    """It is counted as it comes: no more is read than the limit and one chunk."""
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        yield HEAD
        while True:
            taken += 1000
            yield bytes(1000)

    app = create_app(predictor, ServerSettings(max_bytes=50_000))
    status, problem = asyncio.run(ask(app, endless(), header))
    assert (status, problem["code"]) == (413, "body-too-large")
    assert taken <= 51_000


def test_a_body_that_does_not_come(predictor: Predictor) -> None:
    async def stalls() -> AsyncIterator[bytes]:
        yield HEAD
        await asyncio.sleep(30)

    app = create_app(predictor, ServerSettings(timeout_s=0.1))
    status, problem = asyncio.run(ask(app, stalls(), FORM))
    assert (status, problem["code"]) == (408, "slow-client")


def test_all_bodies_together_are_bounded(predictor: Predictor) -> None:
    """Three stalled uploads hold what two may: the third is refused, and later room is back."""
    app = create_app(
        predictor, ServerSettings(timeout_s=0.4, max_bytes=50_000, max_bytes_at_once=100_000)
    )

    async def stalls() -> AsyncIterator[bytes]:
        yield HEAD + bytes(40_000)
        await asyncio.sleep(30)

    async def all_three() -> list[Any]:
        return await asyncio.gather(*(ask(app, stalls(), FORM) for _ in range(3)))

    for _ in range(2):
        answers = asyncio.run(all_three())
        codes = sorted((status, problem["code"]) for status, problem in answers)
        assert codes == [(408, "slow-client"), (408, "slow-client"), (503, "memory-full")]
    body = HEAD + numbered_picture(0)[0] + b"\r\n--x--\r\n"
    with TestClient(app, base_url="http://127.0.0.1") as client:
        answer = client.post("/v1/detect", content=body, headers={"Content-Type": FORM[1].decode()})
    assert answer.status_code == 200


def test_nothing_of_a_body_goes_to_the_disk(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a file was made")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    app = create_app(predictor)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        answer = client.post("/v1/detect", files={"f": bytes(5_000_000)})
    assert answer.json()["code"] == "not-a-picture"


def test_numbers_that_do_not_fit_each_other() -> None:
    with pytest.raises(InputError, match="never fits"):
        ServerSettings(max_bytes=10, max_bytes_at_once=9)
