"""The server as an ASGI application, for `flyweight serve` and for mounting elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from flyweight import __version__
from flyweight.runtime.predictor import Predictor
from flyweight.server.access import Access
from flyweight.server.detection_queue import DetectionQueue
from flyweight.server.lifetime import Lifetime, Watch
from flyweight.server.limits import Limits
from flyweight.server.metrics import ServerMetrics
from flyweight.server.openapi import install_openapi
from flyweight.server.reference_page import HEADERS, reference_page
from flyweight.server.refusal import RefusalError
from flyweight.server.routes import CLIENT_LEFT, detect_router, facts_router
from flyweight.server.settings import ServerSettings
from flyweight.web_page.routes import page_router

# For a run of the network that hangs, in which nobody is interested any longer.
CLOSE_S = 2.0


def create_app(
    predictor: Predictor | Sequence[Predictor],
    settings: ServerSettings | None = None,
    *,
    model_path: Path | None = None,
    share_model: bool = True,
) -> FastAPI:
    """A server of one exported file.

    Args:
        predictor: the file, opened; or opened several times, for as many runs at once.
        settings: limits; by default those of this machine alone.
        model_path: the file itself, for the page that runs it in the browser; without it there is
            no page.
        share_model: whether the page may have the file, to run it in the browser; without, the
            page asks the server.

    Returns:
        The application. `app.state.lifetime` tells a process that stops it what is going on. Where
        it is mounted in another one, whose lifespan is not passed on, its threads end with the
        process.
    """
    settings = settings or ServerSettings()
    predictors = [predictor] if isinstance(predictor, Predictor) else list(predictor)
    lifetime, metrics = Lifetime(), ServerMetrics()
    queue = DetectionQueue(predictors, settings, metrics)
    queue.warm_up()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(queue.close, wait_s=CLOSE_S)

    app = FastAPI(
        title="Flyweight",
        summary=f"{predictors[0].manifest.model.get('name', 'A detector')} behind HTTP",
        version=__version__,
        lifespan=lifespan,
        # FastAPI's pages load their scripts from a CDN.
        docs_url=None,
        redoc_url=None,
    )
    app.state.lifetime = lifetime
    app.include_router(detect_router(predictors[0], queue, settings))
    app.include_router(facts_router(predictors[0], settings, metrics, lifetime))
    if model_path is not None:
        app.include_router(page_router(model_path, predictors[0], share_model=share_model))
    _include_reference(app, start="/" if model_path is None else None)
    app.add_exception_handler(RefusalError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_such_address)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(Limits, settings=settings)
    app.add_middleware(Access, settings=settings)
    app.add_middleware(Watch, lifetime=lifetime, metrics=metrics)
    install_openapi(app, with_key=bool(settings.api_keys))
    return app


def _include_reference(app: FastAPI, *, start: str | None) -> None:
    """`/docs`, to which also `start` leads."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(reference_page(app.openapi()), headers=HEADERS)

    if start is not None:

        @app.get(start, include_in_schema=False)
        async def lead() -> Response:
            return RedirectResponse("docs")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)
    return error.response()


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    detail = f"{where}: {first['msg']}"
    return RefusalError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail).response()


async def _no_such_address(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "-")
    return RefusalError(status, code, error.detail, headers=dict(error.headers or {})).response()


async def _left(_: Request, _error: Exception) -> Response:
    """In the middle of its body: nothing to answer, and nothing for the log."""
    return Response(status_code=CLIENT_LEFT)


async def _failed(_: Request, error: Exception) -> Response:
    """The traceback goes to the log, never to a stranger."""
    return RefusalError(
        HTTPStatus.INTERNAL_SERVER_ERROR, "failed", "the server failed; its log says why"
    ).response()
