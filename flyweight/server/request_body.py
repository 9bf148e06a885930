"""The pictures of a request: files of a form, or base64 in JSON. Never a path, never an address."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from http import HTTPStatus

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from flyweight.server.refusal import RefusalError
from flyweight.server.settings import ServerSettings

FORM = "multipart/form-data"
JSON = "application/json"
# Marks of JSON's structure in a request of no more than the pictures that are allowed. Lists in
# lists take 50 times their length in memory; base64 has no such marks, so counting them costs
# nothing and bounds what parsing can take.
MARKS = b"[{,"
MARKS_OF_A_PICTURE = 16


@dataclass(frozen=True)
class NamedPicture:
    """A picture as it came.

    Attributes:
        name: what the client calls it; only ever repeated to it.
        data: the file's bytes.
    """

    name: str | None
    data: bytes


class JsonPicture(BaseModel):
    """A picture in a JSON request."""

    model_config = ConfigDict(extra="forbid")

    data: str = Field(description="The file (JPEG, PNG, WebP or BMP) in base64.")
    name: str | None = Field(None, max_length=255, description="Repeated in the answer.")


class JsonRequest(BaseModel):
    """A JSON request."""

    model_config = ConfigDict(extra="forbid")

    images: list[JsonPicture] = Field(min_length=1)


async def read_pictures(request: Request, settings: ServerSettings) -> list[NamedPicture]:
    """The pictures in a request's body.

    Raises:
        RefusalError: the body is of another type, broken, or holds no picture or too many.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == FORM:
        pictures = await _form_pictures(request.headers, request.stream(), settings)
    elif content_type == JSON:
        pictures = _json_pictures(await request.body(), settings)
    else:
        raise RefusalError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-type", f"send {FORM} or {JSON}"
        )
    if not pictures:
        raise RefusalError(HTTPStatus.BAD_REQUEST, "malformed", "the form has no file")
    if len(pictures) > settings.max_pictures:
        raise _too_many(settings)
    return pictures


async def _form_pictures(
    headers: Headers, stream: AsyncGenerator[bytes, None], settings: ServerSettings
) -> list[NamedPicture]:
    parser = MultiPartParser(headers, stream, max_files=settings.max_pictures, max_fields=0)
    # Bodies are bounded already: no picture of a stranger goes to the disk.
    parser.spool_max_size = settings.max_bytes + 1
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise _too_many(settings) from error
        raise RefusalError(HTTPStatus.BAD_REQUEST, "malformed", error.message) from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    try:
        return [NamedPicture(each.filename or None, await each.read()) for each in files]
    finally:
        await form.close()


def _json_pictures(body: bytes, settings: ServerSettings) -> list[NamedPicture]:
    marks = sum(body.count(mark) for mark in MARKS)
    if marks > MARKS_OF_A_PICTURE * (settings.max_pictures + 1):
        raise RefusalError(
            HTTPStatus.BAD_REQUEST, "malformed", "the JSON has more in it than pictures need"
        )
    try:
        given = JsonRequest.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error) from error
    if len(given.images) > settings.max_pictures:
        raise _too_many(settings)
    return [
        NamedPicture(each.name, _from_base64(each.data, index))
        for index, each in enumerate(given.images)
    ]


def _from_base64(text: str, index: int) -> bytes:
    try:
        # `base64` of the shell breaks its lines
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusalError(
            HTTPStatus.BAD_REQUEST, "malformed", f"data is no base64: {error}", picture=index
        ) from error


def _invalid(error: ValidationError) -> RefusalError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return RefusalError(HTTPStatus.BAD_REQUEST, "malformed", first["msg"])
    where = ".".join(str(part) for part in first["loc"])
    return RefusalError(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", f"{where or 'the body'}: {first['msg']}"
    )


def _too_many(settings: ServerSettings) -> RefusalError:
    return RefusalError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too-many-pictures",
        f"send at most {settings.max_pictures} pictures a request",
    )
