"""Who may ask: by the name the request calls us, the page it comes from, and its key."""

from __future__ import annotations

import base64
import binascii
import hmac
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from flyweight.server.refusal import RefusalError
from flyweight.server.settings import ServerSettings

# Probes carry no key, and learn nothing from it.
OPEN_PATHS = ("/health",)


class Access:
    """ASGI middleware; it answers before any of the body is read.

    `Host` must be one of ours, against names that are bound to this machine later (DNS rebinding).
    `Origin`, which browsers send with what another site asks them to do, must be ourselves: there
    is no CORS. A key is taken as `Authorization: Bearer KEY`, as `X-API-Key: KEY`, or as the
    password of `Authorization: Basic`, which a browser asks its user for.
    """

    def __init__(self, app: ASGIApp, *, settings: ServerSettings) -> None:
        self._app = app
        self._hosts = settings.allowed_hosts
        self._keys = tuple(key.encode() for key in settings.api_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            refusal = self._refusal(Headers(scope=scope), path)
            if refusal is not None:
                await refusal.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers, path: str) -> RefusalError | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self._hosts is not None and name.lower() not in self._hosts:
            return _stranger("the Host of this request is not one of this server's names")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return _stranger("the request comes from a page of another site")
        if self._keys and path not in OPEN_PATHS and not self._has_key(headers):
            return RefusalError(
                HTTPStatus.UNAUTHORIZED,
                "no-key",
                "send an API key: Authorization: Bearer KEY, or X-API-Key: KEY",
                headers={"WWW-Authenticate": 'Bearer, Basic realm="flyweight", charset="UTF-8"'},
            )
        return None

    def _has_key(self, headers: Headers) -> bool:
        given = given_key(headers)
        # Every key is compared, in a time that does not tell how much of one was right.
        return any([hmac.compare_digest(given, key) for key in self._keys])


def given_key(headers: Headers) -> bytes:
    """The key that a request carries; empty where there is none."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value).partition(b":")[2]
        except binascii.Error:
            return b""
    return headers.get("x-api-key", "").encode("latin-1")


def _stranger(detail: str) -> RefusalError:
    return RefusalError(HTTPStatus.FORBIDDEN, "elsewhere", detail)
