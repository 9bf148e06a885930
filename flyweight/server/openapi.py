"""The server's OpenAPI schema: bodies, refusals and examples that FastAPI cannot tell by itself."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from flyweight.core.image import encode_image
from flyweight.server.answers import Problem
from flyweight.server.refusal import PROBLEM_JSON
from flyweight.server.request_body import FORM, JSON, JsonRequest

REF = "#/components/schemas/{model}"


def _problems(*refusals: tuple[HTTPStatus, str, str]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of refusals: status, `code`, `detail`."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status, code, detail in refusals:
        schema = {"schema": {"$ref": REF.format(model="Problem")}, "examples": {}}
        entry = responses.setdefault(
            status.value, {"description": status.phrase, "content": {PROBLEM_JSON: schema}}
        )
        value = Problem(
            title=status.phrase, status=status, code=code, detail=detail, picture=None
        ).model_dump()
        entry["content"][PROBLEM_JSON]["examples"][code] = {"value": value}
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            entry["headers"] = {
                "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}
            }
    return responses


KEY_PROBLEMS = _problems(
    (HTTPStatus.UNAUTHORIZED, "no-key", "send an API key: Authorization: Bearer KEY"),
    (HTTPStatus.FORBIDDEN, "elsewhere", "the request comes from a page of another site"),
    (HTTPStatus.SERVICE_UNAVAILABLE, "stopping", "the server is being stopped"),
)
DETECT_PROBLEMS = KEY_PROBLEMS | _problems(
    (HTTPStatus.BAD_REQUEST, "malformed", "Missing boundary in multipart."),
    (HTTPStatus.REQUEST_TIMEOUT, "slow-client", "the body did not come in time"),
    (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", "send at most 20000000 bytes"),
    (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-many-pictures", "send at most 16 pictures"),
    (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-many-pixels", "the picture has 90000×90000 pixels"),
    (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-type", f"send {FORM} or {JSON}"),
    (HTTPStatus.UNPROCESSABLE_ENTITY, "not-a-picture", "this is no JPEG, PNG, WebP or BMP"),
    (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", "query.score: Input should be at most 1"),
    (HTTPStatus.SERVICE_UNAVAILABLE, "queue-full", "64 pictures are being worked on"),
    (HTTPStatus.SERVICE_UNAVAILABLE, "memory-full", "too many bytes are held"),
    (HTTPStatus.SERVICE_UNAVAILABLE, "stopping", "the server is being stopped"),
    (HTTPStatus.GATEWAY_TIMEOUT, "timeout", "there was no answer in time"),
)


def example_picture() -> str:
    """A PNG of 16 × 16 pixels in base64: what may be sent as it stands."""
    ramp = np.linspace(0, 255, 16, dtype=np.uint8)
    image = np.stack([*np.meshgrid(ramp, ramp), np.full((16, 16), 128, np.uint8)], axis=-1)
    return base64.b64encode(encode_image(image, suffix=".png")).decode()


DETECT_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        FORM: {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "string", "format": "binary"},
                        "description": "One or several files, under any field names.",
                    }
                },
            }
        },
        JSON: {
            "schema": {"$ref": REF.format(model="JsonRequest")},
            "example": {"images": [{"name": "ramp.png", "data": example_picture()}]},
        },
    },
}


def example_answer(model: str, class_names: Sequence[str]) -> dict[str, Any]:
    """An answer with two objects of this model's classes."""
    last = len(class_names) - 1
    return {
        "model": model,
        "images": [
            {
                "name": "street.jpg",
                "width": 640,
                "height": 480,
                "boxes_xyxy": [[48.5, 240.2, 350.1, 426.7], [340.9, 20.3, 639.4, 371.8]],
                "scores": [0.913, 0.427],
                "labels": [0, last],
                "class_names": [class_names[0], class_names[last]],
                "batch": 1,
                "ms": {"decode": 1.9, "wait": 0.1, "detect": 7.2},
            }
        ],
    }


def install_openapi(app: FastAPI, *, with_key: bool) -> None:
    """Let `app.openapi()` name the models that only our own parts refer to, and the keys."""

    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            content = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
            )
            components = content.setdefault("components", {})
            models = components.setdefault("schemas", {})
            for model in (Problem, JsonRequest):
                own = model.model_json_schema(ref_template=REF)
                models |= own.pop("$defs", {})
                models[model.__name__] = own
            if with_key:
                components["securitySchemes"] = {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                    "password": {"type": "http", "scheme": "basic"},
                }
                content["security"] = [{name: []} for name in components["securitySchemes"]]
            app.openapi_schema = content
        return app.openapi_schema

    app.openapi = schema  # type: ignore[method-assign]
