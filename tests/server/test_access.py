"""Who is let in."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.server.conftest import assert_problem, numbered_picture

Serve = Callable[..., TestClient]
FILES = {"f": numbered_picture(0)[0]}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "LOCALHOST", "[::1]:80", "[::1]"]
)
def test_our_own_names(serving: Serve, host: str) -> None:
    client = serving()
    assert client.post("/v1/detect", files=FILES, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "", "127.0.0.1:80:80",
     "2130706433", "localhost@evil.example"],
)  # fmt: skip
def test_names_bound_to_this_machine_later(serving: Serve, host: str) -> None:
    for method, path in (("GET", "/v1/model"), ("POST", "/v1/detect"), ("GET", "/health")):
        answer = serving().request(method, path, headers={"Host": host})
        assert_problem(answer, 403, "elsewhere", "Host")


def test_names_of_a_proxy(serving: Serve) -> None:
    client = serving(allowed_hosts=("detect.example",))
    assert client.get("/health", headers={"Host": "Detect.Example:443"}).status_code == 200
    assert client.get("/health").status_code == 403
    anywhere = serving(allowed_hosts=None)
    assert anywhere.get("/health", headers={"Host": "10.1.2.3"}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://localhost:8000", "http://127.0.0.1:81"]
)
def test_pages_of_others(serving: Serve, origin: str) -> None:
    answer = serving().post("/v1/detect", files=FILES, headers={"Origin": origin})
    assert_problem(answer, 403, "elsewhere", "another site")
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_our_own_page(serving: Serve) -> None:
    for origin in ("http://127.0.0.1:8000", "https://127.0.0.1:8000"):
        answer = serving().post("/v1/detect", files=FILES, headers={"Origin": origin})
        assert answer.status_code == 200


def test_browsers_are_told_nothing_before_they_ask_elsewhere(serving: Serve) -> None:
    preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = serving().options("/v1/detect", headers=preflight)
    assert answer.status_code == 403
    assert not any(name.startswith("access-control") for name in answer.headers)


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer first-key"},
        {"Authorization": "bearer  second-key"},
        {"X-API-Key": "second-key"},
        basic("anybody:first-key"),
        basic(":second-key"),
    ],
)
def test_a_key(serving: Serve, headers: dict[str, str]) -> None:
    client = serving(api_keys=("first-key", "second-key"))
    assert client.post("/v1/detect", files=FILES, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer first-key-and-more"},
        {"Authorization": "first-key"},
        {"Authorization": "Basic first-key"},
        {"Authorization": "Basic @@"},
        {"Authorization": "Bearer schlüssel".encode("latin-1").decode("latin-1")},
        {"X-API-Key": "first-ke"},
        {"X-API-Key": ""},
        basic("first-key"),
        basic("first-key:"),
    ],
)
def test_no_key(serving: Serve, headers: dict[str, Any]) -> None:
    client = serving(api_keys=("first-key",))
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    for method, path in (
        ("POST", "/v1/detect"), ("GET", "/v1/model"), ("GET", "/metrics"), ("GET", "/"),
        ("GET", "/openapi.json"), ("GET", "/nothing"),
    ):  # fmt: skip
        answer = client.request(method, path, headers=encoded, follow_redirects=False)
        assert_problem(answer, 401, "no-key")
        assert "Bearer" in answer.headers["www-authenticate"]
    assert client.get("/health").status_code == 200


def test_keys_are_compared_in_constant_time(
    serving: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every key is compared whole, by the library, whichever is right."""
    compared: list[bytes] = []
    real = hmac.compare_digest

    def compare(given: bytes, key: bytes) -> bool:
        compared.append(key)
        return real(given, key)

    monkeypatch.setattr("flyweight.server.access.hmac.compare_digest", compare)
    client = serving(api_keys=("first-key", "second-key"))
    assert client.get("/v1/model", headers={"X-API-Key": "first-key"}).status_code == 200
    assert compared == [b"first-key", b"second-key"]
