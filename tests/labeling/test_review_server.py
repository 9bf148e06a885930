"""The server as strangers, mistakes and bad luck meet it."""

from __future__ import annotations

import errno
import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.core.image import read_image
from flyweight.labeling.review_server import MOST_BODY_BYTES, PAGE, PAGE_FILES, make_server
from flyweight.labeling.review_store import ReviewStore, open_store
from tests.labeling.review_data import ask, boxes_in, decide, serving, write_labels

A, B, C = 0, 1, 2


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_labels(tmp_path / "out")


@pytest.fixture
def store(labels: Path) -> Iterator[ReviewStore]:
    with open_store(labels.parents[1]) as opened:
        yield opened


@pytest.fixture
def address(store: ReviewStore) -> Iterator[str]:
    with serving(store) as url:
        yield url


def host_of(address: str) -> str:
    return urlsplit(address).netloc


def test_the_page_is_whole(address: str) -> None:
    """Every file of the page is served, and it asks for no other."""
    assert {file for file, _ in PAGE_FILES.values()} == {path.name for path in PAGE.iterdir()}
    for name, (file, _) in PAGE_FILES.items():
        status, content = ask(address, name)
        assert status == 200
        assert content == (PAGE / file).read_bytes()
        for elsewhere in (b"http://", b"https://", b"//cdn", b"@import"):
            text = content.replace(b"http://www.w3.org/2000/svg", b"")
            assert elsewhere not in text, (file, elsewhere)


def test_the_session(address: str) -> None:
    status, session = ask(address, "session")
    assert status == 200
    assert session["queue"] == [B, A, C]
    assert session["done"] == []
    assert session["classes"] == [
        {"id": 1, "name": "cup", "threshold": 0.5},
        {"id": 2, "name": "pen", "threshold": 0.8},
        {"id": 3, "name": "book", "threshold": 1.0},
    ]


def test_a_picture(address: str) -> None:
    status, picture = ask(address, f"pictures/{A}")
    assert status == 200
    assert (picture["name"], picture["size_hw"], picture["missing"]) == ("a.png", [60, 80], False)
    # the margins are 0.1 and 0.45
    assert picture["boxes"] == [
        {"id": 2, "category": 2, "box_xyxy": [40, 10, 70, 18], "score": 0.7, "reviewed": None,
         "ignored": True},
        {"id": 1, "category": 1, "box_xyxy": [4, 6, 24, 22], "score": 0.95, "reviewed": None,
         "ignored": False},
    ]  # fmt: skip


def test_a_decision_and_a_stale_one(address: str, store: ReviewStore) -> None:
    status, picture = decide(address, A, 0, action="drop", box=1)
    assert (status, picture["revision"], picture["reviewed"]) == (200, 1, "begun")
    status, answer = decide(address, A, 0, action="drop", box=2)
    assert status == 409
    assert answer["picture"] == picture
    assert [each["id"] for each in store.state(A).annotations] == [2]


def test_pictures_that_browsers_draw_come_as_they_are(address: str, store: ReviewStore) -> None:
    status, content = ask(address, f"pictures/{B}/file")
    assert status == 200
    path = store.picture_file(B)
    assert path is not None
    assert content == path.read_bytes()


def test_other_pictures_are_decoded(address: str, store: ReviewStore) -> None:
    """A TIFF, which no browser draws; the red is red."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[:, :40] = (200, 30, 20)
    path = store.folder.images / "d.tiff"
    cv2.imwrite(str(path), image[..., ::-1])
    store.images[C]["file_name"] = "d.tiff"
    status, content = ask(address, f"pictures/{C}/file")
    assert status == 200
    np.testing.assert_allclose(read_image(content)[30, 20], image[30, 20], atol=3)


def test_pictures_that_vanish_meanwhile(address: str, store: ReviewStore, labels: Path) -> None:
    assert ask(address, f"pictures/{A}/file")[0] == 200
    (store.folder.images / "a.png").unlink()
    assert ask(address, f"pictures/{A}/file")[0] == 404
    assert ask(address, f"pictures/{A}")[1]["missing"]
    status, picture = decide(address, A, 0, action="drop", box=1)
    assert (status, picture["missing"]) == (200, True)
    store.fold()
    assert 1 not in boxes_in(labels)


@pytest.mark.parametrize(
    "path",
    ["nothing", "pictures/3", "pictures/-1", "pictures/x", "pictures/0/other", "pictures/0/file/x",
     "pictures/../../../etc/passwd", "pictures/%2e%2e/file", "pictures/1e0", "pictures/%C2%B2",
     "../review.js", "pictures", "pictures/99999999999999999999"],
)  # fmt: skip
def test_paths_that_are_none(address: str, path: str) -> None:
    assert ask(address, path)[0] == 404


def test_without_the_token(address: str) -> None:
    foreign = f"http://{host_of(address)}/"
    for path in ("", "session", "x" * 32 + "/session", "pictures/0/file"):
        assert ask(foreign, path)[0] == 403
    assert decide(foreign, A, 0, action="drop", box=1)[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # DNS rebinding: the name of a site, our address
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://evil.example"},  # a form or a script of another site
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1:{port}"},
    ],
)
def test_other_sites(address: str, store: ReviewStore, headers: dict[str, str]) -> None:
    port = host_of(address).partition(":")[2]
    sent = {name: value.format(port=port) for name, value in headers.items()}
    body = {"picture": A, "revision": 0, "action": "drop", "box": 1}
    assert ask(address, "decide", body, sent)[0] == 403
    assert ask(address, "session", headers=sent)[0] == 403
    assert store.state(A).revision == 0


def test_the_page_itself(address: str) -> None:
    port = host_of(address).partition(":")[2]
    body = {"picture": A, "revision": 0, "action": "drop", "box": 1}
    for name in ("127.0.0.1", "localhost"):
        own = {"Host": f"{name}:{port}", "Origin": f"http://{name}:{port}"}
        assert ask(address, "session", headers=own)[0] == 200
    assert ask(address, "decide", body, own)[0] == 200


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"action=drop", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Length": "-5"}, 411),
        (b"{}", {"Content-Length": "²"}, 411),
        (b"{}", {"Content-Length": str(MOST_BODY_BYTES + 1)}, 413),
        (b"{}", {"Content-Length": "9" * 5000}, 413),
        (b"{", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"[]", {}, 400),
        (b"[" * 10000, {}, 400),
        (b'{"picture": 0}', {}, 400),
        (b'{"picture": 9, "revision": 0, "action": "done"}', {}, 400),
        (b'{"picture": 0, "revision": "0", "action": "done"}', {}, 400),
        (b'{"picture": 0, "revision": 0, "action": "burn"}', {}, 400),
        (b'{"picture": 0, "revision": 0, "action": "undo"}', {}, 400),
    ],
)
def test_bodies_that_are_no_decision(
    address: str, store: ReviewStore, body: bytes, headers: dict[str, str], status: int
) -> None:
    sent = {name: value.encode() for name, value in headers.items()}
    assert ask(address, "decide", body, sent)[0] == status  # type: ignore[arg-type]
    assert store.state(A).reviewed is None


def test_a_body_that_was_refused_is_no_second_request(address: str, store: ReviewStore) -> None:
    """Unread, it would come next on the same connection."""
    body = json.dumps({"picture": A, "revision": 0, "action": "drop", "box": 1})
    parts = urlsplit(address)
    hidden = (
        f"POST {parts.path}decide HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    assert ask(address, "decide", hidden.encode(), {"Content-Type": "text/plain"})[0] == 415
    assert decide(address, B, 0, action="done")[0] == 200
    assert store.state(A).revision == 0


def test_other_methods(address: str) -> None:
    connection = http.client.HTTPConnection(host_of(address))
    connection.request("DELETE", urlsplit(address).path)
    assert connection.getresponse().status == 501
    connection.close()


def test_a_full_disk(address: str, store: ReviewStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    status, answer = decide(address, A, 0, action="drop", box=1)
    assert (status, answer["error"]) == (507, "the disk is full")
    assert ask(address, f"pictures/{A}")[1]["revision"] == 0
    monkeypatch.undo()
    assert decide(address, A, 0, action="drop", box=1)[0] == 200


def test_only_this_machine_and_a_free_port(store: ReviewStore) -> None:
    server, address = make_server(store)
    with server:
        host, port = server.server_address[:2]
        assert host == "127.0.0.1"
        assert f"http://127.0.0.1:{port}/" in address
        with pytest.raises(InputError, match=f"port {port} cannot be used"):
            make_server(store, port=int(port))
        other, second = make_server(store)
        other.server_close()
        assert urlsplit(second).path != urlsplit(address).path
