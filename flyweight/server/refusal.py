"""Requests that are not served: why, as RFC 9457 problem details."""

from __future__ import annotations

import json
from http import HTTPStatus

from starlette.responses import Response

PROBLEM_JSON = "application/problem+json"


class RefusalError(Exception):
    """A request that gets no detections.

    Args:
        status: of HTTP.
        code: a word for programs, such as `queue-full`; one code always has one status.
        detail: a sentence for people.
        picture: which picture of the request is meant, from 0.
        retry_after_s: when it may be worth another try.
        headers: more of the answer's.
    """

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        *,
        picture: int | None = None,
        retry_after_s: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.picture = picture
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)

    def response(self) -> Response:
        """The answer, `application/problem+json`."""
        content = {
            "title": self.status.phrase,
            "status": self.status.value,
            "code": self.code,
            "detail": self.detail,
            "picture": self.picture,
        }
        return Response(
            json.dumps(content, ensure_ascii=False),
            self.status,
            self.headers,
            media_type=PROBLEM_JSON,
        )
