"""How much a request may send and how long it may take, whoever reads its body."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flyweight.server.refusal import RefusalError
from flyweight.server.settings import ServerSettings

RETRY_S = 1


class Limits:
    """ASGI middleware: bytes are counted as they come, since a chunked body says no length.

    A client that is slow to send gets 408, work that is slow gets 504, and an answer that is not
    taken ends with its connection.
    """

    def __init__(self, app: ASGIApp, *, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Body(self._settings.max_bytes)
        started = False

        async def limited() -> Message:
            message = await receive()
            size = request.take(message)
            if self._held + size > self._settings.max_bytes_at_once:
                raise _busy()
            self._held += size
            request.held += size
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            request.check_length(Headers(scope=scope).get("content-length"))
            async with asyncio.timeout(self._settings.timeout_s):
                await self._app(scope, limited, noted)
        except RefusalError as refusal:
            await refusal.response()(scope, receive, send)
        except TimeoutError:
            if started:
                raise
            await request.timeout().response()(scope, receive, send)
        finally:
            self._held -= request.held


class _Body:
    """What has come of one request's body."""

    def __init__(self, max_bytes: int) -> None:
        self.held = 0
        self._max_bytes = max_bytes
        self._whole = False

    def check_length(self, length: str | None) -> None:
        """Refuse by the header what is too long, before anything of it is read."""
        if length is not None and length.isdigit() and int(length[:20]) > self._max_bytes:
            raise self._too_large()

    def take(self, message: Message) -> int:
        """The bytes that a message of the body adds."""
        if message["type"] != "http.request":
            return 0
        self._whole = not message.get("more_body", False)
        size = len(message.get("body", b""))
        if self.held + size > self._max_bytes:
            raise self._too_large()
        return size

    def timeout(self) -> RefusalError:
        """Whose fault it is that time is up."""
        if not self._whole:
            return RefusalError(
                HTTPStatus.REQUEST_TIMEOUT, "slow-client", "the body did not come in time"
            )
        return RefusalError(
            HTTPStatus.GATEWAY_TIMEOUT, "timeout", "there was no answer in time", retry_after_s=1
        )

    def _too_large(self) -> RefusalError:
        return RefusalError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "body-too-large",
            f"send at most {self._max_bytes} bytes a request",
        )


def _busy() -> RefusalError:
    return RefusalError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "memory-full",
        "too many bytes are held for other requests",
        retry_after_s=RETRY_S,
    )
