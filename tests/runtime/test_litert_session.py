from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyweight.core.errors import InputError
from flyweight.core.manifest import Manifest, Thresholds
from flyweight.core.preprocessing import Preprocessing
from flyweight.runtime.predictor import Predictor

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from ai_edge_litert import schema_py_generated as schema

from flyweight.runtime import litert_file
from flyweight.runtime.litert_file import pack, read_manifest, with_manifest
from flyweight.runtime.litert_session import LiteRtSession

SIDE, CELLS = 32, 4
CELL = SIDE // CELLS
FLOAT, UINT8, INT32 = (getattr(schema.TensorType, each) for each in ("FLOAT32", "UINT8", "INT32"))


class Flatbuffer:
    """A model built by hand, tensor by tensor."""

    def __init__(self) -> None:
        self.buffers = [schema.BufferT()]
        self.tensors: list[Any] = []
        self.codes: list[Any] = []
        self.operators: list[Any] = []

    def tensor(self, name: str, shape: tuple[int, ...], kind: int, data: Any = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, list(shape), kind, 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            made.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(made)
        return len(self.tensors) - 1

    def operator(self, kind: str, inputs: list[int], output: int, options: Any = None) -> None:
        code, made = schema.OperatorCodeT(), schema.OperatorT()
        number = getattr(schema.BuiltinOperator, kind)
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
        made.opcodeIndex, made.inputs, made.outputs = len(self.codes), inputs, [output]
        if options is not None:
            made.builtinOptions = options
            made.builtinOptionsType = getattr(
                schema.BuiltinOptions, type(options).__name__.removesuffix("T")
            )
        self.codes.append(code)
        self.operators.append(made)

    def packed(self, inputs: list[int], outputs: list[int]) -> bytes:
        graph, model = schema.SubGraphT(), schema.ModelT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = inputs, outputs
        model.version, model.subgraphs, model.buffers = 3, [graph], self.buffers
        model.operatorCodes = self.codes
        return pack(model)


def colour_flatbuffer(*, scores: str = "scores") -> bytes:
    """Scores are the mean red, green and blue of each of 4 x 4 cells; boxes are the cells.

    The outputs stand in the other order than in the contract.
    """
    made, count = Flatbuffer(), CELLS * CELLS
    images = made.tensor("images", (1, SIDE, SIDE, 3), UINT8)
    numbers = made.tensor("float", (1, SIDE, SIDE, 3), FLOAT)
    cast = schema.CastOptionsT()
    cast.inDataType, cast.outDataType = UINT8, FLOAT
    made.operator("CAST", [images], numbers, cast)
    mean = made.tensor("mean", (1, CELLS, CELLS, 3), FLOAT)
    pool = schema.Pool2DOptionsT()
    pool.filterHeight = pool.filterWidth = pool.strideH = pool.strideW = CELL
    pool.padding = schema.Padding.VALID
    made.operator("AVERAGE_POOL_2D", [numbers], mean, pool)
    unit = made.tensor("unit", (1, CELLS, CELLS, 3), FLOAT)
    scale = made.tensor("scale", (1,), FLOAT, np.array([1 / 255], np.float32))
    made.operator("MUL", [mean, scale], unit, schema.MulOptionsT())
    rows = made.tensor(scores, (1, count, 3), FLOAT)
    shape = made.tensor("rows", (3,), INT32, np.array([1, count, 3], np.int32))
    made.operator("RESHAPE", [unit, shape], rows)
    ys, xs = np.mgrid[:CELLS, :CELLS].reshape(2, -1) * CELL
    cells = np.stack([xs, ys, xs + CELL, ys + CELL], axis=1).astype(np.float32)
    constant = made.tensor("cells", (count, 4), FLOAT, cells)
    boxes = made.tensor("boxes", (1, count, 4), FLOAT)
    box_shape = made.tensor("box_shape", (3,), INT32, np.array([1, count, 4], np.int32))
    made.operator("RESHAPE", [constant, box_shape], boxes)
    return made.packed([images], [rows, boxes])


MANIFEST = Manifest(
    model={"name": "colours"},
    class_names=("red", "green", "blue"),
    preprocessing=Preprocessing(size_hw=(SIDE, SIDE)),
    thresholds=Thresholds(score=0.1),
)


@pytest.fixture(scope="module")
def whole() -> bytes:
    return with_manifest(colour_flatbuffer(), MANIFEST)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "colours.tflite"
        path.write_bytes(content)
        return path

    return write


def test_finds_the_colours(
    whole: bytes, save: Callable[[bytes], Path], picture: np.ndarray
) -> None:
    session = LiteRtSession(save(whole), threads=1)
    assert session.runtime == "litert"
    assert session.outputs == ("boxes", "scores")
    assert (session.batch, session.size_hw) == (1, (SIDE, SIDE))
    predictor = Predictor(session)
    assert predictor.class_names == ("red", "green", "blue")
    found = predictor.predict_batch([picture, picture[:, ::-1].copy()])
    for each, expected in zip(
        found,
        ([[48, 16, 72, 32], [0, 48, 24, 64]], [[24, 16, 48, 32], [72, 48, 96, 64]]),
        strict=True,
    ):
        np.testing.assert_allclose(each.scores, [1, 0.8], atol=1e-5)
        np.testing.assert_array_equal(each.labels, [0, 2])
        np.testing.assert_allclose(each.boxes_xyxy, expected, atol=1e-4)


def test_outputs_are_copies(whole: bytes, save: Callable[[bytes], Path]) -> None:
    session = LiteRtSession(save(whole), threads=2)
    bright = np.full((1, SIDE, SIDE, 3), 255, np.uint8)
    boxes, scores = session.run(bright)
    session.run(np.zeros_like(bright))
    np.testing.assert_allclose(scores, 1, atol=1e-6)
    assert boxes[0, 5].tolist() == [8, 8, 16, 16]


def test_the_manifest_is_replaced_and_other_metadata_stays(whole: bytes, tmp_path: Path) -> None:
    content = litert_file.unpack(whole)
    entry = schema.MetadataT()
    entry.name, entry.buffer = "min_runtime_version", 0
    content.metadata.append(entry)
    again = with_manifest(pack(content), MANIFEST)
    assert read_manifest(tmp_path, again) == MANIFEST
    names = [each.name.decode() for each in litert_file.unpack(again).metadata]
    assert sorted(names) == ["flyweight", "flyweight.sha256", "min_runtime_version"]


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_must_be_some(threads: int, whole: bytes, save: Callable[[bytes], Path]) -> None:
    with pytest.raises(InputError, match="threads"):
        LiteRtSession(save(whole), threads=threads)


def test_what_is_no_model_of_ours(save: Callable[[bytes], Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        LiteRtSession(tmp_path / "none.tflite")
    with pytest.raises(InputError, match="empty"):
        LiteRtSession(save(b""))
    for strange in (b"TFL3", b"\x08\0\0\0ONNX" + bytes(40), b"\xff" * 4 + b"TFL3" + b"\xff" * 400):
        with pytest.raises(InputError, match="is no LiteRT model"):
            LiteRtSession(save(strange))
    with pytest.raises(InputError, match="no Flyweight manifest"):
        LiteRtSession(save(colour_flatbuffer()))
    with pytest.raises(InputError, match="not boxes and scores"):
        LiteRtSession(save(with_manifest(colour_flatbuffer(scores="logits"), MANIFEST)))


def test_a_damaged_file_never_reaches_the_runtime(
    whole: bytes, save: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut anywhere, or with a bit turned over anywhere: the weights count as much as the tables."""

    def refuse(**_: Any) -> None:
        raise AssertionError("a damaged file was given to the runtime")

    monkeypatch.setattr("flyweight.runtime.litert_session.Interpreter", refuse)
    rng = np.random.default_rng(0)
    damaged = [whole[:length] for length in rng.integers(1, len(whole), 100)]
    for place, bit in zip(rng.integers(0, len(whole), 400), rng.integers(0, 8, 400), strict=True):
        mutated = bytearray(whole)
        mutated[place] ^= 1 << bit
        damaged.append(bytes(mutated))
    damaged.append(whole + b"\0")
    for content in damaged:
        with pytest.raises(InputError):
            read_manifest(Path("damaged.tflite"), content)
    with pytest.raises(InputError, match="damaged"):
        LiteRtSession(save(damaged[-1]))


def changed(change: Callable[[Any], None]) -> bytes:
    """The colours' file after a change to its tables, sealed again."""
    content = litert_file.unpack(colour_flatbuffer())
    change(content)
    return with_manifest(pack(content), MANIFEST)


def _operator(content: Any, index: int, **values: Any) -> None:
    vars(content.subgraphs[0].operators[index]).update(values)


def _tensor(content: Any, index: int, **values: Any) -> None:
    vars(content.subgraphs[0].tensors[index]).update(values)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.subgraphs.append(c.subgraphs[0]), "more than one graph"),
        (lambda c: setattr(c.operatorCodes[2], "builtinCode", 32), "operator CUSTOM"),
        (lambda c: setattr(c.operatorCodes[2], "builtinCode", 119), "operator WHILE"),
        (lambda c: _operator(c, 0, opcodeIndex=9), "no code"),
        (lambda c: _operator(c, 2, inputs=[2, -1]), "reads what is not there"),
        (lambda c: _operator(c, 2, inputs=[3, 4]), "reads what is not there"),
        (lambda c: _operator(c, 2, inputs=[2]), "MUL has 1 inputs"),
        (lambda c: _operator(c, 2, outputs=[2]), "writes where it must not"),
        (lambda c: _operator(c, 2, outputs=[99]), "writes where it must not"),
        (
            lambda c: setattr(c.subgraphs[0].operators[1].builtinOptions, "strideW", 0),
            "AVERAGE_POOL_2D has a strideW of 0",
        ),
        (lambda c: _tensor(c, 2, shape=None), "no shape"),
        (lambda c: _tensor(c, 2, shape=[1, 2**20, 2**20, 3]), "has the shape"),
        (lambda c: _tensor(c, 2, shape=[1, -1, 4, 3]), "has the shape"),
        (lambda c: _tensor(c, 2, type=5), "of type STRING"),
        (lambda c: _tensor(c, 4, shape=[1000]), "not the size of its shape"),
        (lambda c: setattr(c.subgraphs[0], "outputs", [5, 77]), "reads what is not there"),
    ],
)
def test_graphs_that_flyweight_does_not_write(
    change: Callable[[Any], None], told: str, save: Callable[[bytes], Path]
) -> None:
    with pytest.raises(InputError, match=told):
        LiteRtSession(save(changed(change)))


@pytest.mark.parametrize(
    ("scale", "zero_point", "good"),
    [
        ([0.5], [0], True),
        ([0.5, 1, 2], [0, 0, 0], True),
        ([0.5, 1], [0, 0], False),
        ([0.5], None, False),
        ([0.0], [0], False),
        ([float("nan")], [0], False),
    ],
)
def test_scales_are_one_or_one_a_channel(
    scale: list[float], zero_point: list[int] | None, good: bool, save: Callable[[bytes], Path]
) -> None:
    def change(content: Any) -> None:
        made = schema.QuantizationParametersT()
        made.scale, made.zeroPoint, made.quantizedDimension = scale, zero_point, 3
        _tensor(content, 2, quantization=made)

    path = save(changed(change))
    if good:
        read_manifest(path, path.read_bytes())
        return
    with pytest.raises(InputError, match="scales"):
        read_manifest(path, path.read_bytes())


# A stranger can seal what he wrote: such files are opened here, in a process that they may end.
OPEN_SEALED = """
import sys
from pathlib import Path
import numpy as np
from flyweight.core.errors import InputError
from flyweight.runtime.litert_session import LiteRtSession
assert "torch" not in sys.modules
for path in sorted(Path(sys.argv[1]).glob("*.tflite")):
    try:
        LiteRtSession(path, threads=1).run(np.zeros((1, 32, 32, 3), np.uint8))
        print("ran")
    except (InputError, ValueError):
        print("refused")
"""


def sealed(content: bytearray, digest: bytes) -> bytes:
    """`content` with a SHA-256 that holds in place of `digest`."""
    place = content.find(digest)
    content[place : place + len(digest)] = bytes(len(digest))
    content[place : place + len(digest)] = hashlib.sha256(bytes(content)).digest()
    return bytes(content)


def test_sealed_nonsense_does_not_end_the_process(whole: bytes, tmp_path: Path) -> None:
    marks = litert_file.unpack(whole)
    digest = next(
        marks.buffers[each.buffer].data.tobytes()
        for each in marks.metadata
        if each.name == b"flyweight.sha256"
    )
    place = whole.find(digest)
    rng = np.random.default_rng(1)
    for index in range(200):
        mutated = bytearray(whole)
        for at in rng.integers(0, len(whole), rng.integers(1, 4)):
            if not place <= at < place + len(digest):
                mutated[at] = rng.choice([0, 1, 127, 128, 255])
        (tmp_path / f"{index:03}.tflite").write_bytes(sealed(mutated, digest))
    done = subprocess.run(
        [sys.executable, "-c", OPEN_SEALED, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = done.stdout.split()
    assert len(outcomes) == 200
    assert set(outcomes) == {"ran", "refused"}
