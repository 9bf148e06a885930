"""The addresses of the server."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

from fastapi import APIRouter, Query
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from flyweight.runtime.predictor import DISPLAY_SCORE, Predictor
from flyweight.runtime.session import precision_of
from flyweight.server.answers import (
    DetectAnswer,
    HealthAnswer,
    LimitsAnswer,
    ModelAnswer,
    picture_answer,
)
from flyweight.server.detection_queue import DetectionQueue
from flyweight.server.lifetime import Lifetime
from flyweight.server.metrics import ServerMetrics
from flyweight.server.openapi import DETECT_BODY, DETECT_PROBLEMS, KEY_PROBLEMS, example_answer
from flyweight.server.request_body import read_pictures
from flyweight.server.settings import ServerSettings

JSON = "application/json"
# Nobody reads it; the metrics count it under the status that nginx gave such requests.
CLIENT_LEFT = 499
Score = Annotated[float, Query(ge=0, le=1, description="Detections from this score on.")]


def detect_router(
    predictor: Predictor, queue: DetectionQueue, settings: ServerSettings
) -> APIRouter:
    """`POST /v1/detect`."""
    router = APIRouter()
    model = str(predictor.manifest.model.get("name", ""))
    class_names = predictor.class_names

    @router.post(
        "/v1/detect",
        summary="Find objects in pictures",
        response_model=DetectAnswer,
        responses=DETECT_PROBLEMS
        | {200: {"content": {JSON: {"example": example_answer(model, class_names)}}}},
        openapi_extra={"requestBody": DETECT_BODY},
    )
    async def detect(request: Request, score: Score = DISPLAY_SCORE) -> Response:
        """Send one or several files as a form, or base64 in JSON.

        All pictures of a request are answered, in their order, or the request is refused.
        """
        pictures = await read_pictures(request, settings)
        work = asyncio.ensure_future(queue.detect([each.data for each in pictures], score=score))
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return Response(status_code=CLIENT_LEFT)
            found = await work
        finally:
            # What nobody waits for any longer is not worked on.
            work.cancel()
            gone.cancel()
        images = [
            picture_answer(picture.name, each, class_names)
            for picture, each in zip(pictures, found, strict=True)
        ]
        content = {"model": model, "images": images}
        return Response(json.dumps(content, ensure_ascii=False), media_type=JSON)

    return router


async def _disconnected(request: Request) -> None:
    """Return when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def facts_router(
    predictor: Predictor, settings: ServerSettings, metrics: ServerMetrics, lifetime: Lifetime
) -> APIRouter:
    """`/v1/model`, `/health` and `/metrics`."""
    router = APIRouter()
    session = predictor.session
    limits = LimitsAnswer(
        max_bytes=settings.max_bytes,
        max_pixels=settings.max_pixels,
        max_pictures=settings.max_pictures,
        timeout_s=settings.timeout_s,
        queue=settings.queue,
    )
    model = ModelAnswer(
        runtime=session.runtime,
        precision=precision_of(predictor.manifest),
        batch=session.batch,
        size_hw=session.size_hw,
        limits=limits,
        manifest=json.loads(predictor.manifest.to_json()),
    )

    @router.get("/v1/model", summary="The model and the limits", responses=KEY_PROBLEMS)
    async def show_model() -> ModelAnswer:
        return model

    @router.get(
        "/health",
        summary="Live and ready",
        responses={503: {"model": HealthAnswer, "description": "The server is being stopped"}},
    )
    async def health(response: Response) -> HealthAnswer:
        """503 while the server is being stopped: it lives, but takes no requests."""
        response.status_code = 503 if lifetime.stopping else 200
        return HealthAnswer(ready=not lifetime.stopping, queue=metrics.held())

    @router.get(
        "/metrics",
        summary="Prometheus' metrics",
        response_class=Response,
        responses=KEY_PROBLEMS | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def show_metrics() -> Response:
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router
