"""Pictures with bytes changed, cut out and doubled: boxes or a refusal, never a failure."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.server.conftest import cells_picture, numbered_picture

Serve = Callable[..., TestClient]
KINDS = {
    "jpeg": (".jpg", []),
    "progressive": (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "png": (".png", []),
    "webp": (".webp", []),
    "bmp": (".bmp", []),
}


def corrupted(data: bytes, rng: np.random.Generator) -> bytes:
    """`data` with one to eight things wrong, most of them near its beginning."""
    spoilt = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        place = int(len(spoilt) * rng.random() ** 3)
        what = rng.integers(4)
        if what == 0:
            spoilt[place : place + 1] = rng.bytes(1)
        elif what == 1:
            spoilt[place : place + 4] = b"\xff\xff\xff\xff"
        elif what == 2:
            del spoilt[place : place + int(rng.integers(1, 64))]
        else:
            spoilt[place:place] = spoilt[place : place + int(rng.integers(1, 64))]
    return bytes(spoilt)


def ask_with_corrupted(client: TestClient, kind: str, count: int) -> set[int]:
    """The statuses of `count` requests, each with a corrupted picture."""
    suffix, options = KINDS[kind]
    rng = np.random.default_rng(len(kind))
    noise = rng.integers(0, 60, (96, 96, 3), dtype=np.uint8)
    data = cv2.imencode(suffix, cells_picture((1, 1, 1), side=96) // 2 + noise, options)[1]
    statuses = set()
    for _ in range(count):
        answer = client.post("/v1/detect", files={"f": corrupted(data.tobytes(), rng)})
        statuses.add(answer.status_code)
        if answer.status_code == 200:
            (image,) = answer.json()["images"]
            boxes = np.array(image["boxes_xyxy"]).reshape(-1, 4)
            assert np.isfinite(boxes).all()
            assert (boxes >= 0).all()
            assert (boxes <= [image["width"], image["height"]] * 2).all()
    return statuses


@pytest.mark.parametrize("kind", KINDS)
def test_corrupted_pictures(serving: Serve, kind: str) -> None:
    client = serving(max_pixels=10_000_000)
    statuses = ask_with_corrupted(client, kind, 40)
    assert statuses <= {200, 413, 422}
    assert 422 in statuses
    data, box, _ = numbered_picture(3)
    answer = client.post("/v1/detect", files={"f": data}).json()
    assert answer["images"][0]["boxes_xyxy"] == [box]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_corrupted_pictures(serving: Serve, kind: str) -> None:
    statuses = ask_with_corrupted(serving(max_pixels=10_000_000), kind, 3000)
    assert statuses <= {200, 413, 422}
