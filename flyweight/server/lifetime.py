"""Every request from the outside: counted, timed, and refused while the server is stopping."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flyweight.server.metrics import ServerMetrics
from flyweight.server.refusal import RefusalError

# What has a line of its own in the metrics; a stranger's paths would grow them without end.
KNOWN_PATHS = ("/v1/detect", "/v1/model", "/health", "/metrics")
WHILE_STOPPING = ("/health", "/metrics")
HEADERS = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
RETRY_S = 5
FAILED = 500


@dataclass
class Lifetime:
    """Where a server is between start and stop.

    Attributes:
        stopping: new requests are refused.
        working: requests that are being served.
    """

    stopping: bool = False
    working: int = 0


class Watch:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp, *, lifetime: Lifetime, metrics: ServerMetrics) -> None:
        self._app = app
        self._lifetime = lifetime
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        start, status = time.perf_counter(), FAILED

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            if self._lifetime.stopping and path not in WHILE_STOPPING:
                await _stopping().response()(scope, receive, noted)
                return
            self._lifetime.working += 1
            try:
                await self._app(scope, receive, noted)
            finally:
                self._lifetime.working -= 1
        finally:
            label = path if path in KNOWN_PATHS else "other"
            self._metrics.requests.labels(label, status).inc()
            self._metrics.request_seconds.labels(label).observe(time.perf_counter() - start)


def _stopping() -> RefusalError:
    return RefusalError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "stopping",
        "the server is being stopped",
        retry_after_s=RETRY_S,
        headers={"Connection": "close"},
    )
