"""Requests that schemathesis makes up from the server's own schema: answered as the schema says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient

from flyweight.runtime.load import load_predictor
from flyweight.server.app import create_app
from flyweight.server.settings import ServerSettings
from tests.server.conftest import HERE

QUICK = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
# That a string must be a picture's base64 is nothing that a JSON schema says.
NOT_OF_A_SCHEMA: list[Any] = [positive_data_acceptance]
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def ask_everything(file: Path, mode: GenerationMode, chosen: settings) -> int:
    """Requests of a mode to every address: no 5xx, and status, type and shape as the schema says.

    Returns:
        How many there were.
    """
    options = ServerSettings(allowed_hosts=None, max_bytes=100_000, max_pictures=4)
    app = create_app(load_predictor(file, threads=1), options)
    asked = 0
    schema: Any = schemathesis.openapi.from_asgi("/openapi.json", app)
    for operation in schema.get_all_operations():

        @chosen
        @given(case=operation.ok().as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(excluded_checks=NOT_OF_A_SCHEMA)

        try:
            ask()
        except Unsatisfiable:  # nothing can be wrong with a request that has no parts
            assert mode is GenerationMode.NEGATIVE
    return asked


@pytest.mark.parametrize("mode", MODES)
def test_requests_made_up(colours_file: Path, mode: GenerationMode) -> None:
    assert ask_everything(colours_file, mode, QUICK) >= 10


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_many_requests_made_up(colours_file: Path, mode: GenerationMode) -> None:
    assert ask_everything(colours_file, mode, settings(QUICK, max_examples=1000)) >= 1000


def test_the_example_of_the_schema_works(colours_file: Path) -> None:
    """What a reader copies out of it is answered, in the shape of the example answer."""
    app = create_app(load_predictor(colours_file, threads=1))
    with TestClient(app, base_url=HERE) as client:
        schema = client.get("/openapi.json").json()
        operation = schema["paths"]["/v1/detect"]["post"]
        body = operation["requestBody"]["content"]["application/json"]["example"]
        answer = client.post("/v1/detect", json=body)
    assert answer.status_code == 200
    shown = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert shown.keys() == answer.json().keys()
    assert shown["images"][0].keys() == answer.json()["images"][0].keys()
    assert shown["images"][0]["class_names"] == ["red", "blue"]


def test_every_refusal_stands_in_the_schema(colours_file: Path) -> None:
    """No `code` is answered that a reader of the schema has not met, and none is made up."""
    import re

    import flyweight.server

    app = create_app(load_predictor(colours_file, threads=1))
    responses = app.openapi()["paths"]["/v1/detect"]["post"]["responses"]
    listed = {
        (int(status), code)
        for status, response in responses.items()
        for code in response["content"].get("application/problem+json", {}).get("examples", ())
    }
    folder = Path(flyweight.server.__file__).parent
    texts = [path.read_text() for path in folder.glob("*.py") if path.name != "openapi.py"]
    written = {
        code for text in texts for code in re.findall(r'HTTPStatus\.\w+,\s+"([a-z-]+)"', text)
    }
    assert {code for _, code in listed} == written - {"failed"} | {"elsewhere"}


def test_keys_stand_in_the_schema(colours_file: Path) -> None:
    predictor = load_predictor(colours_file, threads=1)
    assert "security" not in create_app(predictor).openapi()
    with_keys = create_app(predictor, ServerSettings(api_keys=("k",))).openapi()
    assert with_keys["security"] == [{"bearer": []}, {"header": []}, {"password": []}]
