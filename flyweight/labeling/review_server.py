"""The review page's server: of this machine alone, for whoever has the address.

Other web sites that the person has open are strangers here: the address holds a token that they
cannot guess, requests must name this host (a name that is bound to 127.0.0.1 later, DNS rebinding,
does not), and what changes something must come from the page itself.
"""

from __future__ import annotations

import functools
import hmac
import json
import secrets
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from flyweight.core.errors import InputError
from flyweight.core.files import writing_error
from flyweight.core.image import encode_image, read_image
from flyweight.labeling.review_decision import Decision
from flyweight.labeling.review_store import PictureState, ReviewStore

HOST = "127.0.0.1"
MOST_BODY_BYTES = 16 * 1024
IDLE_S = 60
PAGE = Path(__file__).parent / "review_page"
PAGE_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "review.css": ("review.css", "text/css; charset=utf-8"),
} | {
    f"{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
    for name in ("review", "stage", "drawing", "geometry", "view", "panel", "server")
}
# What every browser draws; pictures of other kinds are decoded for it.
DRAWN = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jfif": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # the token is in the address
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Response:
    """What is sent back."""

    status: HTTPStatus
    body: bytes
    content_type: str = "application/json"


class ReviewPages:
    """What is answered to which request, without the network.

    Args:
        store: the labels.
        token: the first part of every path.
    """

    def __init__(self, store: ReviewStore, token: str) -> None:
        self.store = store
        self.token = token

    def get(self, path: str) -> Response:
        """The page, its parts, `session`, `pictures/ROW` or `pictures/ROW/file`."""
        parts = self._parts(path)
        if parts is None:
            return _refused(HTTPStatus.FORBIDDEN, "this address is of no review that is running")
        name = "/".join(parts)
        if name in PAGE_FILES:
            file, content_type = PAGE_FILES[name]
            return Response(HTTPStatus.OK, (PAGE / file).read_bytes(), content_type)
        if name == "session":
            return _json(self._session())
        row = self._row(parts[1]) if parts[0] == "pictures" and len(parts) in (2, 3) else None
        if row is None or parts[2:] not in ([], ["file"]):
            return _refused(HTTPStatus.NOT_FOUND, "there is no such page")
        return self._file(row) if parts[2:] else _json(self._picture(row, self.store.state(row)))

    def post(self, path: str, body: bytes) -> Response:
        """`decide`: one decision on one picture; answers with the picture after it."""
        parts = self._parts(path)
        if parts is None:
            return _refused(HTTPStatus.FORBIDDEN, "this address is of no review that is running")
        if parts != ["decide"]:
            return _refused(HTTPStatus.NOT_FOUND, "there is no such page")
        try:
            content = json.loads(body)
            row, revision = self._row(str(content["picture"])), content["revision"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return _refused(HTTPStatus.BAD_REQUEST, "no decision")
        if row is None or type(revision) is not int:
            return _refused(HTTPStatus.BAD_REQUEST, "there is no such picture")
        try:
            after = self.store.decide(row, revision, Decision.from_json(content))
        except InputError as error:
            return _refused(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:
            reason = writing_error(self.store.folder.journal, error)
            return _refused(HTTPStatus.INSUFFICIENT_STORAGE, reason.what)
        if after is None:
            now = self._picture(row, self.store.state(row))
            return _json({"error": "decided elsewhere", "picture": now}, HTTPStatus.CONFLICT)
        return _json(self._picture(row, after))

    def _parts(self, path: str) -> list[str] | None:
        """The path's parts after the token; None where the token is not ours."""
        token, _, rest = path.partition("?")[0].removeprefix("/").partition("/")
        right = hmac.compare_digest(token.encode(errors="replace"), self.token.encode())
        return rest.split("/") if right else None

    def _row(self, text: str) -> int | None:
        whole = text.isascii() and text.isdigit() and len(text) < 10
        return int(text) if whole and int(text) < len(self.store) else None

    def _session(self) -> dict[str, Any]:
        store = self.store
        classes = [
            {"id": each["id"], "name": each["name"], "threshold": store.threshold_of[each["id"]]}
            for each in store.categories
        ]
        done = [row for row in store.queue if store.state(row).reviewed == "done"]
        name = store.folder.root.resolve().name
        return {"name": name, "classes": classes, "queue": store.queue, "done": done}

    def _picture(self, row: int, state: PictureState) -> dict[str, Any]:
        """A picture for the page: its boxes `xyxy` in pixels, the least certain first."""
        image = self.store.images[row]
        boxes = [
            {
                "id": each["id"],
                "category": each["category_id"],
                "box_xyxy": _xyxy(each["bbox"]),
                "score": each.get("score"),
                "reviewed": each.get("reviewed"),
                "ignored": bool(each.get("iscrowd")),
            }
            for each in self.store.least_certain_first(row, state)
        ]
        return {
            "row": row,
            "name": image["file_name"],
            "size_hw": [image["height"], image["width"]],
            "missing": self.store.picture_file(row) is None,
            "reviewed": state.reviewed,
            "revision": state.revision,
            "undoable": self.store.undoable(row),
            "boxes": boxes,
            "done": self.store.done,
        }

    def _file(self, row: int) -> Response:
        path = self.store.picture_file(row)
        if path is None:
            return _refused(HTTPStatus.NOT_FOUND, "the picture is missing")
        content_type = DRAWN.get(path.suffix.lower())
        try:
            if content_type is None:
                data, content_type = encode_image(read_image(path)), "image/jpeg"
            else:
                data = path.read_bytes()
        except (InputError, OSError) as error:
            return _refused(HTTPStatus.NOT_FOUND, f"the picture cannot be read: {error}")
        return Response(HTTPStatus.OK, data, content_type)


def _xyxy(bbox: list[float]) -> list[float]:
    x, y, width, height = bbox
    return [x, y, round(x + width, 2), round(y + height, 2)]


def _json(content: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(status, json.dumps(content, allow_nan=False).encode())


def _refused(status: HTTPStatus, reason: str) -> Response:
    return _json({"error": reason}, status)


class _Handler(BaseHTTPRequestHandler):
    """The standard library's way to a request: who may ask, and how much."""

    protocol_version = "HTTP/1.1"
    server_version = "Flyweight"
    timeout = IDLE_S

    def __init__(self, pages: ReviewPages, *connection: Any) -> None:
        self._pages = pages
        super().__init__(*connection)

    def do_GET(self) -> None:
        stranger = _stranger(self.headers, self._port)
        self._send(stranger or self._pages.get(self.path))

    def do_POST(self) -> None:
        self.close_connection = True  # a body that is refused unread would pass for a request
        refused = _stranger(self.headers, self._port) or _wrong_body(self.headers)
        if refused is not None:
            self._send(refused)
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._send(self._pages.post(self.path, body))

    @property
    def _port(self) -> int:
        return int(self.connection.getsockname()[1])

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(response.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the address, which holds the token, would stand in the terminal."""


def _stranger(headers: Message, port: int) -> Response | None:
    """The answer to a request that is not from our page, by its `Host` and `Origin`."""
    hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
    origin = headers.get("Origin")
    ours = headers.get("Host") in hosts and (
        origin is None or origin in {f"http://{host}" for host in hosts}
    )
    return None if ours else _refused(HTTPStatus.FORBIDDEN, "the request comes from elsewhere")


def _wrong_body(headers: Message) -> Response | None:
    """The answer to a body that is no JSON (a form may be sent by any site), or too long."""
    if headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
        return _refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON")
    length = headers.get("Content-Length", "")
    if not (length.isascii() and length.isdigit()):
        return _refused(HTTPStatus.LENGTH_REQUIRED, "say how long the body is")
    if len(length) > 9 or int(length) > MOST_BODY_BYTES:
        return _refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "that is too much for a decision")
    return None


class _Threads(ThreadingHTTPServer):
    """A thread a connection; a browser that goes away in the middle is nothing to report."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing."""


def make_server(store: ReviewStore, *, port: int = 0) -> tuple[ThreadingHTTPServer, str]:
    """A server of this machine alone that listens already, and the address of its page.

    Args:
        port: 0 takes a free one.

    Raises:
        InputError: the port is taken.
    """
    token = secrets.token_urlsafe(24)
    handler = functools.partial(_Handler, ReviewPages(store, token))
    try:
        server = _Threads((HOST, port), handler)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"port {port} cannot be used", where="--port", fix="give another, or none"
        ) from error
    return server, f"http://{HOST}:{server.server_address[1]}/{token}/"
