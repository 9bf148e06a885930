"""`/v1/model`, `/health`, `/metrics`, and what is answered while the server is being stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from flyweight.runtime.predictor import Predictor
from flyweight.server.app import create_app
from tests.html_page import Page, refers_outside
from tests.server.conftest import HERE, assert_problem, numbered_picture

Serve = Callable[..., TestClient]


def samples(client: TestClient) -> dict[tuple[str, str], float]:
    """What Prometheus' own parser reads: name and the labels' values joined."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, " ".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_model(serving: Serve, predictor: Predictor) -> None:
    content = serving(max_pictures=5).get("/v1/model").json()
    assert content["manifest"] == json.loads(predictor.manifest.to_json())
    assert content["limits"]["max_pictures"] == 5
    assert (content["runtime"], content["precision"]) == ("onnxruntime", "fp32")
    assert (content["batch"], content["size_hw"]) == (None, [32, 32])


def test_metrics(serving: Serve) -> None:
    client = serving()
    picture = numbered_picture(0)[0]
    client.post("/v1/detect", files=[("f", ("a", picture))] * 3)
    client.post("/v1/detect", files={"f": b"no picture"})
    for index in range(20):
        client.get(f"/strangers/{index}")
    read = samples(client)
    assert read["flyweight_requests_total", "/v1/detect 200"] == 1
    assert read["flyweight_requests_total", "/v1/detect 422"] == 1
    assert read["flyweight_requests_total", "other 404"] == 20
    assert read["flyweight_request_seconds_count", "/v1/detect"] == 2
    assert read["flyweight_decode_seconds_count", ""] == 3
    assert read["flyweight_batch_pictures_sum", ""] == 3
    assert read["flyweight_batch_pictures_count", ""] == read["flyweight_run_seconds_count", ""]
    assert read["flyweight_queue_pictures", ""] == 0
    assert read["process_resident_memory_bytes", ""] > 1e7
    assert not any("strangers" in labels for _, labels in read)


def test_servers_of_one_process_do_not_mix(serving: Serve) -> None:
    first, second = serving(), serving()
    first.get("/v1/model")
    assert samples(first)["flyweight_requests_total", "/v1/model 200"] == 1
    assert ("flyweight_requests_total", "/v1/model 200") not in samples(second)


def test_while_stopping(serving: Serve) -> None:
    client = serving()
    assert client.get("/health").json() == {"live": True, "ready": True, "queue": 0}
    client.app.state.lifetime.stopping = True  # type: ignore[attr-defined]
    answer = client.post("/v1/detect", files={"f": numbered_picture(0)[0]})
    assert_problem(answer, 503, "stopping")
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["connection"] == "close"
    health = client.get("/health")
    assert (health.status_code, health.json()["live"], health.json()["ready"]) == (503, True, False)
    assert client.get("/metrics").status_code == 200


def test_headers_of_every_answer(serving: Serve) -> None:
    client = serving()
    for path in ("/health", "/v1/model", "/metrics", "/nothing", "/v1/detect"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_the_start(serving: Serve, predictor: Predictor, colours_file: Path) -> None:
    """Without a page the reference; with one, the page and its own headers."""
    answer = serving().get("/", follow_redirects=False)
    assert answer.headers["location"] == "docs"
    with TestClient(create_app(predictor, model_path=colours_file), base_url=HERE) as client:
        page = client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["x-content-type-options"] == "nosniff"
        assert client.get("/v1/model").status_code == 200
        assert client.get("/config.json").status_code == 200


def test_the_reference(serving: Serve) -> None:
    """Every address of the schema and every refusal, and nothing that is loaded from elsewhere."""
    client = serving()
    answer = client.get("/docs")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert len(Page(answer.text).all("h2")) == 4
    assert refers_outside(answer.text) == ["openapi.json"]
    schema = client.get("/openapi.json").json()
    for path, operations in schema["paths"].items():
        for method in operations:
            assert f"{method.upper()} {path}" in answer.text
    for code in ("queue-full", "too-many-pixels", "not-a-picture", "no-key"):
        assert code in answer.text


def test_a_model_that_is_kept(predictor: Predictor, colours_file: Path) -> None:
    app = create_app(predictor, model_path=colours_file, share_model=False)
    with TestClient(app, base_url=HERE) as client:
        assert client.get("/").status_code == 200
        for name in ("model.onnx", "colours.onnx"):
            assert client.get(f"/{name}").status_code == 404
