"""What is found: the boxes of the Python predictor, each in the answer to its own request."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from flyweight.core.image import encode_image, write_image
from flyweight.runtime.load import load_predictor
from flyweight.runtime.predictor import Predictor
from flyweight.server.answers import DetectAnswer, shortest
from flyweight.server.app import create_app
from flyweight.server.settings import ServerSettings
from tests.server.conftest import HERE, GatedSession, cells_picture, numbered_picture

Serve = Callable[..., TestClient]


def same(answer: dict[str, Any], predictor: Predictor, path: Path, score: float) -> int:
    """The answer has exactly what the predictor finds in the file; how much that is."""
    found = predictor.predict(path, score=score)
    boxes = np.array(answer["boxes_xyxy"], np.float32).reshape(-1, 4)
    np.testing.assert_array_equal(boxes, found.boxes_xyxy)
    np.testing.assert_array_equal(np.array(answer["scores"], np.float32), found.scores)
    assert answer["labels"] == found.labels.tolist()
    assert answer["class_names"] == [predictor.class_names[label] for label in found.labels]
    return len(found)


def as_json(*pictures: bytes) -> dict[str, Any]:
    return {"images": [{"data": base64.b64encode(each).decode()} for each in pictures]}


def test_a_drawn_picture(serving: Serve, predictor: Predictor, tmp_path: Path) -> None:
    picture = cells_picture((1, 2, 0), (3, 0, 2), side=64)
    write_image(tmp_path / "drawn.png", picture)
    data = (tmp_path / "drawn.png").read_bytes()
    answer = serving().post("/v1/detect?score=0.5", files={"file": ("drawn.png", data)})
    assert answer.status_code == 200
    (image,) = DetectAnswer.model_validate(answer.json()).model_dump()["images"]
    assert (image["name"], image["width"], image["height"]) == ("drawn.png", 64, 64)
    # Two pixels of the picture are one of the input, whose cells have 8: worked by hand.
    assert sorted(image["boxes_xyxy"]) == [(0, 48, 16, 64), (32, 16, 48, 32)]
    assert sorted(image["class_names"]) == ["blue", "red"]
    assert same(answer.json()["images"][0], predictor, tmp_path / "drawn.png", 0.5) == 2
    assert answer.json()["model"] == "colours"


def test_one_rule_for_scores(serving: Serve) -> None:
    picture = encode_image(cells_picture((1, 2, 0)) // 2, suffix=".png")  # a score of 127 / 255
    client = serving()
    for score, found in (("0.49", 1), ("0.51", 0), ("0", 1), ("1", 0)):
        answer = client.post(f"/v1/detect?score={score}", files={"file": picture})
        assert len(answer.json()["images"][0]["scores"]) == found, score
    by_default = client.post("/v1/detect", json=as_json(picture))
    assert len(by_default.json()["images"][0]["scores"]) == 1


def test_several_pictures_keep_their_order(serving: Serve) -> None:
    numbers = [7, 33, 12, 40, 7, 0]
    made = [numbered_picture(number) for number in numbers]
    client = serving()
    form = client.post(
        "/v1/detect", files=[("f", (f"{i}", each[0])) for i, each in enumerate(made)]
    )
    listed = client.post("/v1/detect", json=as_json(*[each[0] for each in made]))
    assert [image["name"] for image in form.json()["images"]] == list("012345")
    assert [image["name"] for image in listed.json()["images"]] == [None] * 6
    for answer in (form, listed):
        for image, (_, box, label) in zip(answer.json()["images"], made, strict=True):
            assert (image["boxes_xyxy"], image["labels"]) == ([box], [label])


def test_base64_as_the_shell_breaks_it(serving: Serve) -> None:
    data, box, _ = numbered_picture(5)
    broken = base64.encodebytes(data).decode()
    assert "\n" in broken.strip()
    answer = serving().post("/v1/detect", json={"images": [{"data": broken, "name": "five"}]})
    assert answer.json()["images"][0]["boxes_xyxy"] == [box]
    assert answer.json()["images"][0]["name"] == "five"


@pytest.mark.parametrize("kind", [".jpg", ".png", ".webp", ".bmp"])
def test_kinds(serving: Serve, predictor: Predictor, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"picture{kind}"
    # JPEGs of this size are decoded at an eighth of it, by both.
    write_image(path, cells_picture((2, 1, 1), side=512))
    answer = serving().post("/v1/detect", files={"file": path.read_bytes()}).json()["images"][0]
    assert (answer["width"], answer["height"]) == (512, 512)
    assert same(answer, predictor, path, 0.3) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_every_answer_belongs_to_its_request(colours_file: Path, workers: int) -> None:
    """240 requests of 48 different pictures from 12 clients at once, in batches."""
    predictors = [load_predictor(colours_file, threads=1) for _ in range(workers)]
    made = [numbered_picture(number) for number in range(48)]
    app = create_app(predictors, ServerSettings(max_batch=8))
    with TestClient(app, base_url=HERE) as client:

        def ask(number: int) -> dict[str, Any]:
            answer = client.post("/v1/detect", files={"file": made[number % 48][0]})
            assert answer.status_code == 200, answer.text
            image: dict[str, Any] = answer.json()["images"][0]
            return image

        with ThreadPoolExecutor(12) as clients:
            images = list(clients.map(ask, range(240)))
    for number, image in enumerate(images):
        _, box, label = made[number % 48]
        assert (image["boxes_xyxy"], image["labels"]) == ([box], [label]), number
    assert max(image["batch"] for image in images) > 1


def test_files_of_a_fixed_batch(colours_file: Path, tmp_path: Path) -> None:
    import onnx

    from tests.runtime.conftest import colour_model

    for batch in (1, 3):
        onnx.save(colour_model(batch=batch), tmp_path / "fixed.onnx")
        predictor = load_predictor(tmp_path / "fixed.onnx", threads=1)
        made = [numbered_picture(number) for number in (3, 20, 37, 9)]
        with TestClient(create_app(predictor), base_url=HERE) as client:
            answer = client.post("/v1/detect", json=as_json(*[each[0] for each in made]))
        for image, (_, box, label) in zip(answer.json()["images"], made, strict=True):
            assert (image["boxes_xyxy"], image["labels"]) == ([box], [label])
            assert image["batch"] <= batch


def test_mounted_in_another_application(predictor: Predictor) -> None:
    from fastapi import FastAPI

    outer = FastAPI()
    outer.mount("/cells", create_app(predictor))
    data, box, _ = numbered_picture(11)
    with TestClient(outer, base_url=HERE) as client:
        answer = client.post("/cells/v1/detect", files={"file": data})
        assert answer.json()["images"][0]["boxes_xyxy"] == [box]
        assert client.get("/cells/health").json()["ready"]
        assert 'path="/v1/detect",status="200"' in client.get("/cells/metrics").text


def test_a_client_that_leaves_is_not_worked_for(serving: Serve, gated: GatedSession) -> None:
    """Covered with a real connection in test_serve.py; here: cancelled pictures are not run."""
    client = serving(timeout_s=0.2)
    gated.shut()
    made = numbered_picture(1)[0]
    # The first is in the network when time is up, the second waits and is dropped.
    with ThreadPoolExecutor(2) as clients:
        answers = list(clients.map(lambda _: client.post("/v1/detect", files={"f": made}), "ab"))
    assert [answer.status_code for answer in answers] == [504, 504]
    gated.open.set()
    assert client.post("/v1/detect", files={"f": made}).status_code == 200
    assert sum(gated.batches) <= 3


def test_the_fewest_digits_of_the_same_number() -> None:
    rng = np.random.default_rng(0)
    values = (rng.random((50, 4)) * 1000).astype(np.float32)
    assert shortest(np.array([0.1, 350.0], np.float32)) == [0.1, 350.0]
    np.testing.assert_array_equal(np.array(shortest(values), np.float32), values)
    assert shortest(np.zeros((0, 4), np.float32)) == []


@pytest.mark.parametrize("folder", ["bccd", "cards", "tiny_coco"])
def test_real_pictures(serving: Serve, predictor: Predictor, shared_dir: Path, folder: str) -> None:
    """Photographs of several sizes, as single requests and as one."""
    paths = sorted((shared_dir / "data" / folder).rglob("*.jpg"))[:40:8]
    if not paths:
        pytest.skip(f"no pictures in {folder}")
    client = serving()
    found = 0
    for path in paths:
        answer = client.post("/v1/detect?score=0.4", files={"file": path.read_bytes()})
        found += same(answer.json()["images"][0], predictor, path, 0.4)
    assert found > 0
    answer = client.post("/v1/detect?score=0.4", json=as_json(*[p.read_bytes() for p in paths]))
    for image, path in zip(answer.json()["images"], paths, strict=True):
        same(image, predictor, path, 0.4)
