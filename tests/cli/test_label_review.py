"""`flyweight label --review`: what it asks for, and what it refuses."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flyweight as fw
from flyweight.labeling import review
from flyweight.labeling.review_lock import lock_labels

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def labelled(
    flyweight: Run, tiny_data: Path, tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str | Path], Path]:
    """The words that label, and the folder that they have labelled."""
    out = tmp_path_factory.mktemp("labelled") / "made"
    words: list[str | Path] = [
        "label", tiny_data / "images" / "train", "--teacher", tiny_onnx,
        "--data", tiny_data, "--split", "train", "--out", out,
    ]  # fmt: skip
    assert flyweight(*words, "--no-flip").code == 0
    return words, out


@pytest.fixture
def visitor(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody who looks at the page once it is there and then presses Ctrl-C."""
    pages: list[str] = []
    real = review.make_server

    def make(store: Any, *, port: int) -> Any:
        server, address = real(store, port=port)

        def serve(poll_interval: float) -> None:
            thread = threading.Thread(target=type(server).serve_forever, args=(server, 0.02))
            thread.start()
            with urllib.request.urlopen(address + "session") as answer:
                pages.append(answer.read().decode())
            server.shutdown()
            thread.join()
            raise KeyboardInterrupt

        monkeypatch.setattr(server, "serve_forever", serve)
        return server, address

    monkeypatch.setattr(review, "make_server", make)
    return pages


def test_review_alone(
    flyweight: Run, labelled: tuple[list[str | Path], Path], visitor: list[str]
) -> None:
    _, out = labelled
    told = flyweight("label", "--review", out, "--no-open", "--json")
    assert told.json | {"annotations": ""} == {
        "out": str(out), "annotations": "", "images": 8, "done": 0, "left": 8,
        "accepted": 0, "fixed": 0, "added": 0,
    }  # fmt: skip
    assert re.search(r"review page: http://127\.0\.0\.1:\d+/[\w-]{32}/", told.err)
    assert "8 of 8 pictures are left" in told.err
    assert json.loads(visitor[0])["name"] == "made"
    again = flyweight("label", "--review", "--out", out, "--no-open")
    assert again.code == 0
    assert "0 of 8 pictures" in again.out
    assert f"flyweight label --review {out}" in again.out


def test_label_then_review(
    flyweight: Run, labelled: tuple[list[str | Path], Path], visitor: list[str]
) -> None:
    words, _ = labelled
    told = flyweight(*words, "--no-flip", "--review", "--no-open", "--json").json
    assert told["review"]["images"] == told["images"] == 8
    assert len(visitor) == 1


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["missing: IMAGES, --teacher, --data, --out"]),
        (["PICTURES"], ["missing: --teacher, --data, --out"]),
        (["PICTURES", "--out", "OUT"], ["missing: --teacher, --data", "--review OUT"]),
        (["PICTURES", "--out", "OUT", "--review"], ["missing: --teacher, --data"]),
        (["--review"], ["missing: IMAGES"]),
        (["--review", "PICTURES"], ["no labels to review", "--out"]),
        (["--review", "OUT", "--port", "70000"], ["--port", "65535"]),
    ],
)
def test_what_is_missing(
    flyweight: Run,
    labelled: tuple[list[str | Path], Path],
    tiny_data: Path,
    words: list[str],
    parts: list[str],
) -> None:
    places = {"PICTURES": tiny_data / "images" / "train", "OUT": labelled[1]}
    flyweight("label", *(places.get(word, word) for word in words)).assert_refused(*parts)


def test_somebody_is_at_work(flyweight: Run, labelled: tuple[list[str | Path], Path]) -> None:
    _, out = labelled
    with lock_labels(out / "annotations" / "instances_train.json"):
        flyweight("label", "--review", out).assert_refused("is at work on these labels", str(out))


def test_the_python_side_writes_the_same_labels(
    labelled: tuple[list[str | Path], Path], tiny_data: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    made = fw.label(
        str(tiny_data / "images" / "train"),
        teacher=str(tiny_onnx),
        data=tiny_data,
        split="train",
        out=tmp_path / "made",
        flip=False,
    )
    expected = labelled[1] / "annotations" / "instances_train.json"
    assert made.annotations.read_bytes() == expected.read_bytes()
