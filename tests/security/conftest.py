"""Commands that are given files from strangers, in processes that may take little."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from flyweight.core.image import write_image
from tests.conftest import build_small
from tests.reliability.killing import Ended, Nursery, open_nursery
from tests.runtime.conftest import colour_model

# What a refusal may take, beyond what is loaded before: seconds of a core, and memory.
CPU_S = 10
MEMORY_BYTES = 1 << 30
FILE_BYTES = 64 << 20
# Of the clock, on a machine that others use: what still runs then waits for something.
PATIENCE_S = 60.0

Attack = Callable[..., Ended]


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts commands; torch is loaded once."""
    with open_nursery(tmp_path_factory.mktemp("nursery")) as opened:
        yield opened


@pytest.fixture
def bounded(nursery: Nursery) -> Attack:
    """`bounded(*words)`: how `flyweight WORDS` ended within those limits."""

    def run(*words: str | Path) -> Ended:
        return nursery.order(
            [str(word) for word in words],
            after_s=PATIENCE_S,
            cpu_s=CPU_S,
            memory_bytes=MEMORY_BYTES,
            file_bytes=FILE_BYTES,
        )

    return run


@pytest.fixture
def refused(bounded: Attack) -> Attack:
    """`refused(*words, says=...)`: exit code 2 and one line that names what is wrong."""

    def run(*words: str | Path, says: str = "") -> Ended:
        ended = bounded(*words)
        lines = [line for line in ended.said.splitlines() if not line.startswith("note:")]
        assert ended.code == 2, ended
        assert lines, ended
        assert lines[-1].startswith("error: "), ended
        assert says in lines[-1], ended
        assert "Traceback" not in ended.said
        assert not [each for each in ended.said if not each.isprintable() and each != "\n"], ended
        return ended

    return run


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound PNG."""
    path = tmp_path_factory.mktemp("sound") / "sound.png"
    image = np.zeros((64, 96, 3), np.uint8)
    image[16:32, 48:72, 0] = 255
    write_image(path, image)
    return path


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound .onnx of three classes."""
    path = tmp_path_factory.mktemp("sound") / "colours.onnx"
    onnx.save(colour_model(), path)
    return path


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound checkpoint of three classes."""
    from flyweight.models.detectors import save

    path = tmp_path_factory.mktemp("sound") / "small.safetensors"
    save(build_small("ssdlite320_mobilenet_v2"), path)
    return path


@pytest.fixture
def coco(tmp_path: Path, picture: Path) -> Callable[..., Path]:
    """`coco(**changes)`: a COCO folder of one picture; keys of its file replaced."""

    def write(text: str | None = None, **changes: Any) -> Path:
        root = tmp_path / "coco"
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "annotations").mkdir(exist_ok=True)
        (root / "images" / "a.png").write_bytes(picture.read_bytes())
        content = {
            "images": [{"id": 1, "file_name": "a.png", "width": 96, "height": 64}],
            "categories": [{"id": 1, "name": "red"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [48, 16, 24, 16]}],
        }
        whole = json.dumps(content | changes) if text is None else text
        (root / "annotations" / "instances_train.json").write_text(whole)
        return root

    return write
