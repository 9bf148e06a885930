"""ncnn runs a graph that is written here by hand; what strangers made of one, it never gets."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.core.manifest import Manifest
from flyweight.core.preprocessing import Preprocessing
from flyweight.runtime.ncnn_graph import NcnnLayer, read_graph, write_graph
from flyweight.runtime.ncnn_weights import read_weights, stored_arrays, write_weights

ncnn = pytest.importorskip("ncnn", reason="ncnn is not installed: pip install ncnn")
session_module: Any = importlib.import_module("flyweight.runtime.ncnn_session")
NcnnSession = session_module.NcnnSession

SIDE, CELL = 32, 8
# Scores are the mean red, green and blue of 4 x 4 cells, the boxes are the cells: a 1x1 convolution
# scales 0..255 to 0..1, mean pooling does the rest.
GRAPH = """7767517
6 6
Input images 0 1 images 0=32 1=32 2=3
MemoryData cells 0 1 boxes 0=4 1=16
Convolution scale 1 1 images scaled 0=3 1=1 5=1 6=9
Pooling mean 1 1 scaled means 0=1 1=8 2=8 5=1
Permute rows 1 1 means rows 0=3
Reshape scores 1 1 rows scores 0=3 1=16
"""


def cell_boxes() -> np.ndarray:
    """`[16, 4]` xyxy: the cells, row by row."""
    rows, columns = np.mgrid[: SIDE // CELL, : SIDE // CELL].reshape(2, -1) * CELL
    return np.stack([columns, rows, columns + CELL, rows + CELL], axis=1).astype("<f4")


def weights() -> bytes:
    """Boxes, a tag of four zero bytes, the 3 x 3 matrix, the bias."""
    scale = (np.eye(3) / 255).astype("<f4")
    return cell_boxes().tobytes() + bytes(4) + scale.tobytes() + bytes(12)


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the three files; digests are of what is written, as a stranger would make them."""

    def written(graph: str = GRAPH, content: bytes | None = None, **changes: Any) -> Path:
        content = weights() if content is None else content
        digests = session_module.digests_of(graph.encode(), content)
        manifest = Manifest(
            model={"name": "colours"},
            class_names=("red", "green", "blue"),
            preprocessing=Preprocessing(size_hw=changes.pop("size_hw", (SIDE, SIDE))),
            lineage={"export": {"precision": "fp32", "sha256": digests}},
        )
        path = tmp_path / "colours.ncnn.param"
        path.write_text(graph)
        path.with_suffix(".bin").write_bytes(content)
        path.with_suffix(".json").write_text(manifest.to_json())
        return path

    return written


def picture(seed: int) -> np.ndarray:
    """`[1, 32, 32, 3]`, noise."""
    return np.random.default_rng(seed).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)


def means(image: np.ndarray) -> np.ndarray:
    """What the graph says of `[1, 32, 32, 3]`: `[1, 16, 3]`."""
    cells = image.reshape(4, CELL, 4, CELL, 3).astype(np.float64) / 255
    return cells.mean(axis=(1, 3)).reshape(1, 16, 3)


def test_says_what_numpy_says(write: Write) -> None:
    session = NcnnSession(write(), threads=1)

    assert (session.runtime, session.batch, session.size_hw) == ("ncnn", 1, (SIDE, SIDE))
    assert session.outputs == ("boxes", "scores")
    assert session.precision == "fp32"
    assert session.manifest.class_names == ("red", "green", "blue")
    boxes, scores = session.run(picture(0))
    np.testing.assert_array_equal(boxes, cell_boxes()[None])
    # 24 bits of mantissa; with 16 bits of float the means would be off by 1e-4.
    np.testing.assert_allclose(scores, means(picture(0)), atol=2e-7)


def test_every_run_reads_its_own_picture_and_keeps_its_own_answer(write: Write) -> None:
    session = NcnnSession(write(), threads=2)
    answers = []

    for seed in range(16):
        image = picture(seed)
        answers.append(session.run(image))
        image[:] = 0  # the caller's buffer goes to the next frame
        del image

    for seed, (boxes, scores) in enumerate(answers):
        np.testing.assert_array_equal(boxes, cell_boxes()[None])
        np.testing.assert_allclose(scores, means(picture(seed)), atol=2e-7)


def test_several_threads_get_their_own_answers(write: Write) -> None:
    session = NcnnSession(write(), threads=1)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda seed: session.run(picture(seed))[1], range(40)))

    for seed, scores in enumerate(answers):
        np.testing.assert_allclose(scores, means(picture(seed)), atol=2e-7)


def test_a_picture_is_left_as_it_is_and_may_be_a_view(write: Write) -> None:
    session = NcnnSession(write(), threads=1)
    wide = np.concatenate([picture(1), picture(2)], axis=2)
    view = wide[:, :, ::2, ::-1]
    before = wide.copy()

    _, scores = session.run(view)

    np.testing.assert_allclose(scores, means(np.ascontiguousarray(view)), atol=2e-7)
    np.testing.assert_array_equal(wide, before)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, SIDE, SIDE, 3), np.uint8),
        np.zeros((1, SIDE, SIDE - 1, 3), np.uint8),
        np.zeros((1, SIDE, SIDE, 3), np.float32),
    ],
)
def test_other_inputs_are_refused(write: Write, images: np.ndarray) -> None:
    session = NcnnSession(write(), threads=1)

    with pytest.raises(InputError, match="takes uint8 of"):
        session.run(images)


def test_arithmetic_has_32_bits_whatever_ncnn_would_choose() -> None:
    options = ncnn.Option()
    names = [name for name in dir(options) if name.startswith(("use_fp16", "use_bf16"))]
    assert any(getattr(options, name) for name in names)

    session_module.set_options(options, 3)

    assert not any(getattr(options, name) for name in names)
    assert (options.num_threads, options.use_vulkan_compute) == (3, False)


@pytest.mark.parametrize("suffix", [".param", ".bin", ".json"])
def test_a_file_that_is_missing_empty_cut_or_of_another_export(write: Write, suffix: str) -> None:
    path = write()
    file = path.with_suffix(suffix)
    whole = file.read_bytes()

    for content in (b"", whole[: len(whole) // 2], whole[:-5], b"\xff" * len(whole)):
        file.write_bytes(content)
        with pytest.raises(InputError):
            NcnnSession(path)
    file.unlink()
    with pytest.raises(InputError, match="does not exist"):
        NcnnSession(path)


def test_weights_of_another_export_are_told_by_their_digest(write: Write) -> None:
    path = write()
    changed = bytearray(weights())
    changed[0] ^= 1
    path.with_suffix(".bin").write_bytes(changed)

    with pytest.raises(InputError, match="not of one export"):
        NcnnSession(path)


# Each of these ncnn itself would run, or try to.
FORGED = {
    "more weights than the channels": ("6=9", "6=18"),
    "fewer channels than the weights": ("images 0=32 1=32 2=3", "images 0=32 1=32 2=2"),
    "a picture of another size": ("images 0=32 1=32 2=3", "images 0=64 1=64 2=3"),
    "a float where an integer is meant": ("0=3 1=16", "0=3.0 1=16"),
    "a list where a number is meant": ("0=3 1=16", "-23300=1,3 1=16"),
    "a list shorter than it says": ("0=1 1=8", "-23300=9,1 1=8"),
    "a key outside the table": ("0=1 1=8", "99=1 1=8"),
    "a reshape to more cells": ("0=3 1=16", "0=3 1=4096"),
    "a window larger than the picture": ("0=1 1=8 2=8", "0=1 1=80 2=8"),
    "a stride of nothing": ("0=1 1=8 2=8", "0=1 1=8 2=0"),
    "a negative padding": ("0=1 1=8 2=8", "0=1 1=8 2=8 3=-30"),
    "a layer that is not ours": ("Permute rows", "Embed rows"),
    "a blob that nobody makes": ("1 1 means rows", "1 1 nobody rows"),
    "a blob of two makers": ("means rows 0=3", "means boxes 0=3"),
    "weights of nobody": ("0=4 1=16", "0=4 1=15"),
    "more layers than there are": ("6 6", "7 6"),
    "more blobs than there are": ("6 6", "6 60"),
    "int8 scales that are not there": ("5=1 6=9", "5=1 6=9 8=2"),
    "an activation without its numbers": ("5=1 6=9", "5=1 6=9 9=3"),
    "a border of gigabytes": (
        "Pooling mean 1 1 scaled means 0=1 1=8 2=8 5=1",
        "Pooling mean 1 1 scaled means 0=1 1=4096 2=8 3=4095 5=1",
    ),
    "another magic": ("7767517", "7767518"),
    "terabytes": ("0=4 1=16", "0=2147483647 1=2147483647"),
}


@pytest.mark.parametrize("forgery", FORGED)
def test_forged_graphs_are_refused(write: Write, forgery: str) -> None:
    old, new = FORGED[forgery]
    assert GRAPH.count(old) == 1

    with pytest.raises(InputError, match="damaged"):
        NcnnSession(write(GRAPH.replace(old, new)))


@pytest.mark.parametrize("content", [weights()[:-4], weights() + bytes(4), bytes(len(weights()))])
def test_forged_weights(write: Write, content: bytes) -> None:
    if content == bytes(len(weights())):
        NcnnSession(write(content=content)).run(picture(0))  # other numbers are no damage
        return
    with pytest.raises(InputError, match="damaged"):
        NcnnSession(write(content=content))


def test_weights_of_a_type_that_ncnn_would_guess_are_refused(write: Write) -> None:
    content = bytearray(weights())
    content[16 * 4 * 4] = 7

    with pytest.raises(InputError, match="unknown type"):
        NcnnSession(write(content=bytes(content)))


def test_a_manifest_of_another_size_is_refused(write: Write) -> None:
    with pytest.raises(InputError, match="pictures of"):
        NcnnSession(write(size_hw=(SIDE, SIDE * 2)))


FUZZ = """
import random, sys
from pathlib import Path
import numpy as np
from flyweight.core.errors import InputError
from flyweight.runtime import ncnn_session as module

path, rng = Path(sys.argv[1]), random.Random(7)
graph, weights, manifest = (path.with_suffix(s).read_bytes() for s in (".param", ".bin", ".json"))
digests = module.digests_of(graph, weights)
ran = 0
for _ in range(150):
    words = graph.decode().split(" ")
    for _ in range(rng.choice([1, 1, 2])):
        at = rng.randrange(len(words))
        key, _, value = words[at].rpartition("=")
        number = str(rng.choice([-233, -1, 0, 1, 2, 3, 4, 8, 9, 16, 32, 65536, 2**31 - 1, 1.5]))
        words[at] = f"{key}={number}" if key else rng.choice(words)
    content = bytearray(weights)
    if rng.random() < 0.3:
        content[rng.randrange(len(content))] = rng.randrange(256)
    text = " ".join(words).encode()
    path.write_bytes(text)
    path.with_suffix(".bin").write_bytes(content)
    forged = manifest.decode()
    for suffix, digest in module.digests_of(text, bytes(content)).items():
        forged = forged.replace(digests[suffix], digest)
    path.with_suffix(".json").write_text(forged)
    try:
        session = module.NcnnSession(path, threads=1)
        session.run(np.zeros((1, *session.size_hw, 3), np.uint8))
        ran += 1
    except InputError:
        pass
print(ran)
"""


def test_changed_files_are_refused_or_run_and_never_end_the_process(write: Write) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(write())], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr[-2000:]
    # Some must come through, or the loop tries nothing.
    assert 0 < int(done.stdout) < 150


def test_graph_and_weights_round_trip() -> None:
    layers = read_graph(GRAPH)
    content = np.frombuffer(weights(), np.uint8)
    arrays = read_weights(layers, content)

    assert read_graph(write_graph(layers)) == layers
    assert write_weights(layers, arrays) == weights()
    np.testing.assert_array_equal(arrays[1][0].reshape(16, 4), cell_boxes())


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "i1"])
def test_weights_of_each_type_round_trip(dtype: str) -> None:
    options = {0: "5", 1: "1", 6: "15", 5: "1", 8: "2" if dtype == "i1" else "0"}
    layer = NcnnLayer("Convolution", "c", ("a",), ("b",), options)
    sizes = [stored.count for stored in stored_arrays(layer)]
    arrays = tuple(np.arange(n).astype(dtype if n == 15 else "<f4") for n in sizes)

    content = write_weights([layer], [arrays])
    (found,) = read_weights([layer], np.frombuffer(content, np.uint8))

    assert len(content) % 4 == 0
    assert [each.dtype for each in found] == [each.dtype for each in arrays]
    assert all(np.array_equal(one, two) for one, two in zip(found, arrays, strict=True))


def test_the_manifest_says_which_files_belong_together(write: Write) -> None:
    path = write()

    content = json.loads(path.with_suffix(".json").read_text())

    assert set(content["lineage"]["export"]["sha256"]) == {".param", ".bin"}
