"""train, label, export and serve, killed at random moments: what was written before is whole.

Runs of training are also killed in tests/training (`test_resume`, `test_distributed`), reviews in
tests/labeling (`test_review_killed`), labelling on a cluster in tests/labeling (`test_ray_engine`).
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyweight.core.image import read_image
from flyweight.data.formats import open_dataset
from flyweight.labeling.shards import read_shards
from flyweight.models.detectors import checkpoint
from flyweight.runtime.load import load_predictor
from flyweight.training.resume import load_state
from flyweight.training.run_folder import RunFolder
from tests.cli.conftest import train_arguments
from tests.reliability.killing import Nursery

KILLS = [2, pytest.param(20, marks=pytest.mark.slow)]
# Of metrics.jsonl: not the same from run to run.
CLOCK = ("seconds", "_s", "ms", "per_second", "memory")


# What unfinished writings are called, other libraries' aside.
UNFINISHED = re.compile(r"\..*\.part(\..*)?|\.?(flyweight|export|openvino)-\w+")
# In the system's folder for temporary files, which it tidies up itself.
NOT_TIDIED = re.compile(r"flyweight-openvino-\w+")


def leftovers(*folders: Path) -> list[Path]:
    """What unfinished writings have left in the folders."""
    found = [path for folder in folders for path in folder.rglob("*")]
    return [path for path in found if UNFINISHED.fullmatch(path.name)]


@pytest.mark.parametrize("kills", KILLS)
def test_train(nursery: Nursery, data: Path, tmp_path: Path, kills: int) -> None:
    """Resumed after every kill, it ends with the weights and the figures of a run left alone."""

    def words(out: Path) -> list[str]:
        again = ["--resume"] if (out / "resume.pt").exists() else []
        return [*train_arguments(data, out), "--epochs", "4", *again]

    whole, out = tmp_path / "whole", tmp_path / "killed"
    moments = nursery.moments(words(whole), kills, seed=kills)
    while True:
        ended = nursery.run(words(out), after_s=moments.draw() if moments.left else None)
        moments.count(ended)
        run = RunFolder(out)
        for file in (run.best, run.last):
            if file.exists():
                checkpoint.load(file)
        if run.resume.exists():
            # the figures of an epoch are written first; without its state it is done again
            epochs = [row["epoch"] for row in run.read_metrics()]
            assert epochs == [*range(1, len(epochs) + 1)]
            assert len(epochs) - load_state(run.resume).epoch in (0, 1)
        assert len(leftovers(out)) <= 2
        if ended.code == 0:
            assert figures(out) == figures(whole)
            for name in ("best.safetensors", "last.safetensors"):
                assert weights(out / name) == weights(whole / name)
            if not moments.left:
                break
            shutil.rmtree(out)
    assert leftovers(out, nursery.scratch) == []


def figures(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock gives."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in row.items() if not any(word in name for word in CLOCK)}
        for row in rows
    ]


def weights(file: Path) -> dict[str, bytes]:
    """The bytes of every tensor by its name."""
    state = checkpoint.load(file).model.state_dict()
    return {name: value.numpy().tobytes() for name, value in state.items()}


@pytest.mark.parametrize("kills", KILLS)
def test_label(nursery: Nursery, data: Path, exported: Path, tmp_path: Path, kills: int) -> None:
    """The same command goes on, and the labels are those of a run left alone."""
    pictures = data / "images" / "train"

    def words(out: Path) -> list[str]:
        return [
            "label", str(pictures), "--teacher", str(exported), "--data", str(data),
            "--out", str(out), "--shard", "2", "--batch", "1", "--threads", "1",
        ]  # fmt: skip

    whole, out = tmp_path / "whole", tmp_path / "killed"
    moments = nursery.moments(words(whole), kills, seed=kills)
    labels = Path("annotations") / "instances_train.json"
    truth = (whole / labels).read_bytes()
    while True:
        ended = nursery.run(words(out), after_s=moments.draw() if moments.left else None)
        moments.count(ended)
        for folder in (out / "shards", out / "calibration"):
            shards = sorted(folder.glob("[!.]*"))
            assert len(list(read_shards(shards))) <= 2 * len(shards)
        if (out / labels).exists():
            assert (out / labels).read_bytes() == truth
        assert len(leftovers(out)) <= 2
        if ended.code == 0:
            assert len(open_dataset(out, "train")) == 8
            if not moments.left:
                break
            shutil.rmtree(out)
    assert leftovers(out, nursery.scratch) == []


@pytest.mark.parametrize("kills", KILLS)
def test_export(
    nursery: Nursery,
    checkpoints: tuple[Path, Path],
    data: Path,
    tmp_path: Path,
    kills: int,
) -> None:
    """Over an older file: there is always a whole one, the old or the new."""
    picture = read_image(next((data / "images" / "val").iterdir()))

    def words(source: Path, out: Path) -> list[str]:
        return ["export", str(source), "--to", "onnx,openvino", "--out", str(out), "--name", "it"]

    def boxes(file: Path) -> bytes:
        return load_predictor(file, threads=1).predict(picture).boxes_xyxy.tobytes()

    old, new, out = tmp_path / "old", tmp_path / "new", tmp_path / "out"
    assert nursery.run(words(checkpoints[0], old)).code == 0
    moments = nursery.moments(words(checkpoints[1], new), kills, seed=kills)
    names = ("it.onnx", "it.xml")
    either = {name: {boxes(old / name), boxes(new / name)} for name in names}
    assert all(len(known) == 2 for known in either.values())
    while moments.left:
        shutil.copytree(old, out, dirs_exist_ok=True)
        ended = nursery.run(words(checkpoints[1], out), after_s=moments.draw())
        moments.count(ended)
        for name in names:
            assert boxes(out / name) in either[name]
        assert len(leftovers(out)) <= 3 * kills
    assert nursery.run(words(checkpoints[1], out)).code == 0
    for name in names:
        assert boxes(out / name) == boxes(new / name)
    left = leftovers(out, nursery.scratch)
    assert [path for path in left if not NOT_TIDIED.fullmatch(path.name)] == []


@pytest.mark.parametrize("kills", KILLS)
def test_serve(nursery: Nursery, data: Path, exported: Path, kills: int) -> None:
    """Every answer was right, and the next one listens at the same port at once."""
    file = next((data / "images" / "val").iterdir())
    found = load_predictor(exported, threads=1).predict(read_image(file))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["serve", str(exported), "--port", str(port), "--workers", "1", "--threads", "1"]
    rng = np.random.default_rng(kills)
    for _ in range(kills):
        client = Client(port, file.read_bytes(), nursery.flag, for_s=float(rng.uniform(0, 0.5)))
        with client:
            ended = nursery.run(words)
        assert ended.killed, ended.said
        assert client.answers, ended.said
        for each in client.answers:
            assert each["labels"] == found.labels.tolist()
            np.testing.assert_allclose(each["scores"], found.scores, atol=1e-5)
            np.testing.assert_allclose(
                np.reshape(each["boxes_xyxy"], (-1, 4)), found.boxes_xyxy, atol=1e-2
            )
    left = leftovers(nursery.scratch)
    assert [path for path in left if not NOT_TIDIED.fullmatch(path.name)] == []


class Client:
    """Asks a server again and again, and has it killed some time after its first answer.

    Attributes:
        answers: to the one picture, each of which came whole.
    """

    def __init__(self, port: int, picture: bytes, flag: Path, *, for_s: float) -> None:
        self.answers: list[dict[str, Any]] = []
        body = json.dumps({"images": [{"data": base64.b64encode(picture).decode()}]})
        self._request = ("POST", "/v1/detect", body, {"Content-Type": "application/json"})
        self._port, self._flag, self._for_s = port, flag, for_s
        self._asking = threading.Thread(target=self._ask)
        self._stopped = threading.Event()

    def __enter__(self) -> None:
        self._asking.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._asking.join()

    def _ask(self) -> None:
        enough = float("inf")
        while not self._stopped.is_set():
            if time.monotonic() > enough:
                self._flag.touch()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
                connection.request(*self._request)
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
                continue
            finally:
                connection.close()
            assert answer.status == 200, body
            self.answers += json.loads(body)["images"]
            enough = min(enough, time.monotonic() + self._for_s)
