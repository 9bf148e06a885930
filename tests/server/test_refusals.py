"""Every way in which a request can be wrong: its own status, one sentence, and the server lives."""

from __future__ import annotations

import base64
import struct
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from flyweight.core.errors import InputError
from flyweight.core.image import MAX_SCANS, encode_image
from flyweight.server.settings import ServerSettings
from tests.server.conftest import (
    GatedSession,
    assert_problem,
    cells_picture,
    numbered_picture,
    wait_until,
)

Serve = Callable[..., TestClient]
PICTURE = cells_picture((0, 0, 0), side=64)
JPEG = encode_image(PICTURE)
PNG = encode_image(PICTURE, suffix=".png")


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG whose header says so much; `data` is its compressed content."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def os2_bitmap(width: int, height: int) -> bytes:
    """A BMP with the header of OS/2 1.x, whose sides have 16 bits."""
    header = struct.pack("<IHHHH", 12, width, height, 1, 24)
    return b"BM" + struct.pack("<IHHI", 26, 0, 0, 26) + header


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG with so many scans."""
    made = cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = made.rindex(b"\xff\xda")
    return made[:last] + made[last:-2] * count + made[-2:]


NO_PICTURES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty (0 bytes)"),
    "text": (b"this is no picture" * 50, "no JPEG, PNG, WebP or BMP"),
    "a web page": (b"<html><script>alert(1)</script></html>", "no JPEG"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no JPEG"),
    "gif": (encode_image(PICTURE, suffix=".gif"), "no JPEG"),
    "tiff": (encode_image(PICTURE, suffix=".tiff"), "no JPEG"),
    "truncated jpeg": (JPEG[:-20], "truncated"),
    "truncated png": (PNG[: len(PNG) // 2], "truncated"),
    "jpeg cut in its header": (JPEG[:20], "corrupt"),
    "jpeg of two bytes": (JPEG[:2], "corrupt"),
    "png of its signature": (PNG[:8], "corrupt"),
    "png without pixels": (png_of(64, 64), "decoded"),
    "png of other pixels": (png_of(64, 64, zlib.compress(b"\0" * 99)), "decoded"),
    "png of no width": (png_of(0, 64), "0×64"),
    "jpeg of many scans": (jpeg_of_scans(MAX_SCANS + 1), "scans"),
    "bitmap cut off": (encode_image(PICTURE, suffix=".bmp")[:60], "decoded"),
}
BOMBS = {
    "png": png_of(60_000, 60_000, zlib.compress(b"\0" * 1_000_000)),
    "jpeg": JPEG.replace(struct.pack(">HH", 64, 64), struct.pack(">HH", 65_000, 65_000), 1),
    "bitmap": b"BM" + bytes(12) + struct.pack("<Iii", 40, 30_000, -30_000) + bytes(30),
    "os/2 bitmap": os2_bitmap(32_768, 32_768),
}


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    """Limits that a test can reach."""
    return {"max_pixels": 1_000_000, "max_bytes": 100_000, "max_pictures": 3}


@pytest.mark.parametrize("name", NO_PICTURES)
def test_no_picture(serving: Serve, small: dict[str, Any], name: str) -> None:
    data, words = NO_PICTURES[name]
    client = serving(**small)
    good = numbered_picture(0)[0]
    answer = client.post("/v1/detect", files=[("f", ("a", good)), ("f", ("b", data))])
    assert assert_problem(answer, 422, "not-a-picture", words)["picture"] == 1
    encoded = base64.b64encode(data).decode()
    answer = client.post("/v1/detect", json={"images": [{"data": encoded}]})
    assert assert_problem(answer, 422, "not-a-picture", words)["picture"] == 0
    assert client.post("/v1/detect", files={"f": good}).status_code == 200


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_not_decoded(serving: Serve, small: dict[str, Any], name: str) -> None:
    """A few kilobytes that say they are gigabytes: refused by the header, in no time."""
    client = serving(**small)
    start = time.perf_counter()
    answer = client.post("/v1/detect", files={"f": BOMBS[name]})
    assert_problem(answer, 413, "too-many-pixels", "over the limit of 1000000")
    assert time.perf_counter() - start < 2


def test_pictures_at_the_limit_are_taken(serving: Serve) -> None:
    client = serving(max_pixels=64 * 64, max_bytes=len(JPEG) + 400)
    assert client.post("/v1/detect", files={"f": JPEG}).status_code == 200
    larger = encode_image(np.zeros((64, 65, 3), np.uint8))
    assert_problem(client.post("/v1/detect", files={"f": larger}), 413, "too-many-pixels")


def test_progressive_pictures_are_taken(serving: Serve) -> None:
    assert serving().post("/v1/detect", files={"f": jpeg_of_scans(1)}).status_code == 200


@pytest.mark.parametrize("shape", [(1, 1), (1, 20_000), (20_000, 1), (3, 60_000)])
def test_odd_shapes(serving: Serve, shape: tuple[int, int]) -> None:
    picture = encode_image(np.zeros((*shape, 3), np.uint8), suffix=".png")
    (image,) = serving().post("/v1/detect", files={"f": picture}).json()["images"]
    assert (image["height"], image["width"]) == shape


def test_too_many_pictures(serving: Serve, small: dict[str, Any]) -> None:
    client = serving(**small)
    files = [("f", (str(index), PNG)) for index in range(4)]
    answer = client.post("/v1/detect", files=files)
    assert_problem(answer, 413, "too-many-pictures", "at most 3")
    data = base64.b64encode(PNG).decode()
    answer = client.post("/v1/detect", json={"images": [{"data": data}] * 4})
    assert_problem(answer, 413, "too-many-pictures", "at most 3")


def test_too_many_bytes(serving: Serve, small: dict[str, Any]) -> None:
    client = serving(**small)
    large = bytes(100_001)
    for sent in ({"files": {"f": large}}, {"content": large}):
        answer = client.post("/v1/detect", **sent)
        assert_problem(answer, 413, "body-too-large", "100000 bytes")
    told = client.post("/v1/detect", content=b"", headers={"Content-Length": "9" * 40})
    assert_problem(told, 413, "body-too-large")


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "image/jpeg", "application/x-www-form-urlencoded", "a;b"]
)
def test_other_types(serving: Serve, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = serving().post("/v1/detect", content=JPEG, headers=headers)
    assert_problem(answer, 415, "unsupported-type", "multipart/form-data or application/json")


JSON_BODIES: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "malformed"),
    "no json": (b"{images", 400, "malformed"),
    "no utf-8": (b'{"images": "\xff\xfe"}', 400, "malformed"),
    "a list": (b"[]", 422, "invalid"),
    "null": (b"null", 422, "invalid"),
    "no images": (b"{}", 422, "invalid"),
    "an empty list": (b'{"images": []}', 422, "invalid"),
    "a number": (b'{"images": [{"data": 5}]}', 422, "invalid"),
    "no data": (b'{"images": [{"name": "a"}]}', 422, "invalid"),
    "an address": (b'{"images": [{"url": "http://10.0.0.1/"}]}', 422, "invalid"),
    "a path": (b'{"images": [{"data": "", "path": "/etc/passwd"}]}', 422, "invalid"),
    "one field more": (b'{"images": [{"data": ""}], "x": 1}', 422, "invalid"),
    "a long name": (b'{"images": [{"data": "", "name": "%s"}]}' % (b"n" * 256), 422, "invalid"),
    "no base64": (b'{"images": [{"data": "@@@@"}]}', 400, "malformed"),
    "half base64": (b'{"images": [{"data": "abc"}]}', 400, "malformed"),
    "letters of no alphabet": ('{"images": [{"data": "äöü="}]}'.encode(), 400, "malformed"),
    "a data url": (b'{"images": [{"data": "data:image/png;base64,AAAA"}]}', 400, "malformed"),
    "lists in lists": (b"[" * 50_000, 400, "malformed"),
    "empty lists": (b"[" + b"[]," * 30_000 + b"[]]", 400, "malformed"),
    "objects in objects": (b'{"a":' * 10_000, 400, "malformed"),
    "a number of many digits": (b'{"images": %s}' % (b"9" * 50_000), 400, "malformed"),
}


@pytest.mark.parametrize("name", JSON_BODIES)
def test_json_bodies(serving: Serve, name: str) -> None:
    body, status, code = JSON_BODIES[name]
    answer = serving().post(
        "/v1/detect", content=body, headers={"Content-Type": "application/json"}
    )
    problem = assert_problem(answer, status, code)
    assert len(problem["detail"]) < 500


FORMS: dict[str, tuple[bytes, bytes]] = {
    "no boundary": (b"multipart/form-data", b""),
    "an empty boundary": (b"multipart/form-data; boundary=", b"----"),
    "nothing": (b"multipart/form-data; boundary=x", b""),
    "no end": (b"multipart/form-data; boundary=x", b"--x\r\n"),
    "no name": (b"multipart/form-data; boundary=x", b"--x\r\nA: b\r\n\r\nc\r\n--x--\r\n"),
    "a text field": (
        b"multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="path"\r\n\r\n/etc/passwd\r\n--x--\r\n',
    ),
    "noise": (b"multipart/form-data; boundary=x", bytes(range(256)) * 20),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(serving: Serve, name: str) -> None:
    content_type, body = FORMS[name]
    answer = serving().post(
        "/v1/detect", content=body, headers={"Content-Type": content_type.decode()}
    )
    assert_problem(answer, 400, "malformed")


@pytest.mark.parametrize("score", ["-0.1", "1.1", "nan", "inf", "a", ""])
def test_scores(serving: Serve, score: str) -> None:
    answer = serving().post(f"/v1/detect?score={score}", files={"f": PNG})
    assert_problem(answer, 422, "invalid", "query.score")


def test_addresses(serving: Serve) -> None:
    client = serving()
    assert_problem(client.get("/v1/nothing"), 404, "not-found")
    answer = client.get("/v1/detect")
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"
    assert_problem(client.get("/../../etc/passwd"), 404, "not-found")
    assert_problem(client.get("/redoc"), 404, "not-found")


def test_a_full_queue(serving: Serve, gated: GatedSession) -> None:
    client = serving(queue=3, max_pictures=3)
    gated.shut()
    with ThreadPoolExecutor(3) as clients:
        waiting = [clients.submit(client.post, "/v1/detect", files={"f": PNG}) for _ in range(3)]
        wait_until(lambda: client.get("/health").json()["queue"] == 3)
        for count in (1, 2):
            answer = client.post("/v1/detect", files=[("f", ("a", PNG))] * count)
            assert_problem(
                answer, 503, "queue-full", "3 pictures are being worked on, of at most 3"
            )
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert client.get("/health").status_code == 200
        gated.open.set()
        assert [each.result().status_code for each in waiting] == [200] * 3
    assert client.get("/health").json()["queue"] == 0
    assert client.post("/v1/detect", files=[("f", ("a", PNG))] * 3).status_code == 200


def test_a_refused_request_leaves_the_queue(serving: Serve, gated: GatedSession) -> None:
    """All of it: what is good in it has not to be run any more."""
    client = serving()
    gated.shut()
    with ThreadPoolExecutor(1) as clients:
        first = clients.submit(client.post, "/v1/detect", files={"f": PNG})
        assert gated.entered.wait(10)
        answer = client.post("/v1/detect", files=[("f", ("a", PNG)), ("f", ("b", b"none"))])
        assert_problem(answer, 422, "not-a-picture")
        wait_until(lambda: client.get("/health").json()["queue"] == 1)
        gated.open.set()
        assert first.result().status_code == 200
    assert sum(gated.batches) == 1


def test_a_request_that_takes_too_long(serving: Serve, gated: GatedSession) -> None:
    client = serving(timeout_s=0.15, queue=2, max_pictures=2)
    gated.shut()
    for _ in range(2):
        answer = client.post("/v1/detect", files={"f": PNG})
        assert_problem(answer, 504, "timeout")
        assert answer.headers["retry-after"] == "1"
    # What is in the network keeps its place until it is out; what waited has given its own back.
    assert client.get("/health").json()["queue"] == 1
    gated.open.set()
    wait_until(lambda: client.get("/health").json()["queue"] == 0)
    assert client.post("/v1/detect", files={"f": PNG}).status_code == 200


def test_a_runtime_that_fails(serving: Serve, gated: GatedSession) -> None:
    client = serving()
    gated.failure = RuntimeError("the secret of the runtime")
    answer = client.post("/v1/detect", files={"f": PNG})
    assert_problem(answer, 500, "failed")
    assert "secret" not in answer.text
    gated.failure = None
    assert client.post("/v1/detect", files={"f": PNG}).status_code == 200
    assert client.get("/health").json()["queue"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"queue": 0},
        {"max_batch": 0},
        {"deadline_ms": float("nan")},
        {"timeout_s": 0},
        {"queue": 2, "max_pictures": 3},
        {"max_bytes": 100, "max_bytes_at_once": 99},
        {"max_pixels": 10**10},
        {"api_keys": ("",)},
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ServerSettings(**wrong)


def test_keys_are_not_shown() -> None:
    assert "hidden" not in repr(ServerSettings(api_keys=("hidden",)))
