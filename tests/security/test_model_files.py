"""Model files from strangers: checkpoints, exported files, weights to convert."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from flyweight.core.errors import InputError
from flyweight.core.manifest import METADATA_KEY
from flyweight.training.resume import load_state
from tests.runtime.conftest import colour_model
from tests.security.conftest import Attack

CONVERT = ("convert", "FILE", "--to", "ssdlite320_mobilenet_v3_large", "--out", "OUT")


class Payload:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def pickles(canary: Path) -> dict[str, bytes]:
    """Payloads as `pickle` and as `torch.save` write them."""
    zipped, old = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": Payload(canary)}, zipped)
    torch.save(Payload(canary), old, _use_new_zipfile_serialization=False)
    return {
        "bare": pickle.dumps(Payload(canary), 2),
        "zip": zipped.getvalue(),
        "old": old.getvalue(),
    }


@pytest.mark.parametrize(
    "suffix", [".safetensors", ".onnx", ".xml", ".pth", ".pt", ".caffemodel", ".weights"]
)
@pytest.mark.parametrize("kind", ["bare", "zip", pytest.param("old", marks=pytest.mark.slow)])
def test_pickles_are_not_run(
    kind: str, suffix: str, refused: Attack, tmp_path: Path, picture: Path
) -> None:
    """Whatever they are called."""
    canary, file = tmp_path / "canary", tmp_path / f"model{suffix}"
    file.write_bytes(pickles(canary)[kind])
    if suffix == ".xml":
        file.with_suffix(".bin").write_bytes(file.read_bytes())
    predicts = suffix in (".safetensors", ".onnx", ".xml")
    words = ("predict", "FILE", str(picture)) if predicts else CONVERT
    names = {"FILE": str(file), "OUT": str(tmp_path / "out.safetensors")}
    refused(*(names.get(word, word) for word in words), says="model")
    assert not canary.exists()
    # the payload would have done it
    pickle.loads(pickle.dumps(Payload(canary)))
    assert canary.exists()


@pytest.mark.parametrize("kind", ["bare", "zip", "old"])
def test_a_resume_file_is_not_run(kind: str, tmp_path: Path) -> None:
    canary, file = tmp_path / "canary", tmp_path / "resume.pt"
    file.write_bytes(pickles(canary)[kind])
    with pytest.raises(InputError, match="no state"):
        load_state(file)
    assert not canary.exists()


def packed_weights(path: Path, values: int) -> None:
    """As `torch.save` writes them, but with zeros that a zip file packs a thousandfold."""
    plain = io.BytesIO()
    torch.save({"weight": torch.zeros(values)}, plain)
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for each in source.infolist():
            packed.writestr(each.filename, source.read(each))


def test_packed_weights(refused: Attack, tmp_path: Path) -> None:
    packed_weights(tmp_path / "bomb.pth", 25_000_000)
    assert (tmp_path / "bomb.pth").stat().st_size < 1_000_000
    words = [{"FILE": "bomb.pth", "OUT": "o.safetensors"}.get(word, word) for word in CONVERT]
    words = [str(tmp_path / word) if word.endswith(("pth", "tensors")) else word for word in words]
    refused(*words, says="packed")


def test_weights_larger_than_their_memory(refused: Attack, tmp_path: Path) -> None:
    """One number, said to be 10^12: a copy of it would be."""
    torch.save({"weight": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "wide.pth")
    out = tmp_path / "o.safetensors"
    names = {"FILE": str(tmp_path / "wide.pth"), "OUT": str(out)}
    refused(*(names.get(word, word) for word in CONVERT), says="wide.pth")
    assert not out.exists()


def safetensors_file(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


SAFETENSORS = {
    "a header of 2^63 bytes": safetensors_file({}, length=2**63),
    "a header of 10 GB": safetensors_file({}, length=10**10),
    "a header that is cut": safetensors_file({}, length=1000),
    "nothing but a length": struct.pack("<Q", 0),
    "tensors over each other": safetensors_file(
        {"a": tensor([4], 0, 16), "b": tensor([4], 8, 24)}, bytes(24)
    ),
    "an end before the start": safetensors_file({"a": tensor([4], 16, 0)}, bytes(16)),
    "an offset below zero": safetensors_file({"a": tensor([4], -16, 0)}, bytes(16)),
    "an offset behind the end": safetensors_file({"a": tensor([4], 2**40, 2**40 + 16)}, bytes(16)),
    "10^12 numbers": safetensors_file({"a": tensor([10**6, 10**6], 0, 16)}, bytes(16)),
    "more numbers than 64 bits": safetensors_file({"a": tensor([2**40, 2**40], 0, 16)}, bytes(16)),
    "a type that is none": safetensors_file({"a": tensor([4], 0, 16, "O64")}, bytes(16)),
    "depth": safetensors_file(b'{"a":' * 100_000, bytes(16)),
    "a list": safetensors_file([1, 2]),
    "a number for a text": safetensors_file({"__metadata__": {METADATA_KEY: 1}}),
}


@pytest.mark.parametrize("kind", sorted(SAFETENSORS))
def test_safetensors(kind: str, refused: Attack, tmp_path: Path, picture: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(SAFETENSORS[kind])
    refused("predict", file, picture, says="model.safetensors")


def _changed(path: tuple[str, ...], value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(content: dict[str, Any]) -> Any:
        *parents, last = path
        inner = content
        for name in parents:
            inner = inner[name]
        inner[last] = value
        return content

    return change


MANIFESTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no object": lambda content: [1],
    "depth": lambda content: "[" * 1_000_000,
    "depth inside": lambda content: '{"format_version":1,"model":' + '{"a":' * 100_000,
    "megabytes of nothing": lambda content: " " * 65_000_000,
    "a version of many digits": lambda content: '{"format_version":' + "9" * 10_000 + "}",
    "an infinite version": lambda content: '{"format_version":1e999}',
    "an input of 10^6 pixels a side": _changed(("preprocessing", "size_hw"), [10**6, 10**6]),
    "an infinite input": _changed(("preprocessing", "size_hw"), [1e999, 1e999]),
    "an input of none": _changed(("preprocessing", "size_hw"), None),
    "a padding that is no byte": _changed(("preprocessing", "pad_value"), 10**9),
    "a mean of one": _changed(("preprocessing", "mean"), [0.5]),
    "thresholds of text": _changed(("thresholds", "score"), "x"),
    "a count of text": _changed(("thresholds", "max_detections"), "x"),
    "a count below zero": _changed(("thresholds", "candidates_per_class"), -1),
    "a class that writes": _changed(("class_names",), ["\x1b]0;x\x07", "b", "c"]),
    "a class of two lines": _changed(("class_names",), ["a\nb", "b", "c"]),
    "a million classes": _changed(("class_names",), ["a"] * 1_000_000),
    "a lineage of text": _changed(("lineage",), "x"),
    "an export of text": _changed(("lineage",), {"export": "x"}),
}


@pytest.mark.parametrize("suffix", [".onnx", pytest.param(".safetensors", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", sorted(MANIFESTS))
def test_manifests(
    kind: str,
    suffix: str,
    refused: Attack,
    tmp_path: Path,
    picture: Path,
    small_checkpoint: Path,
) -> None:
    """Huge, deep, no JSON, or with numbers that would only fail when they are used."""
    file = tmp_path / f"model{suffix}"
    if suffix == ".onnx":
        model = colour_model()
        entry = model.metadata_props[0]
        entry.value = as_text(MANIFESTS[kind](json.loads(entry.value)))
        onnx.save(model, file)
    else:
        change_header(small_checkpoint, file, MANIFESTS[kind])
    refused("predict", file, picture, says=file.name)


def as_text(changed: Any) -> str:
    return changed if isinstance(changed, str) else json.dumps(changed)


def change_header(source: Path, target: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """The same tensors under another manifest."""
    whole = source.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    metadata = header["__metadata__"]
    metadata[METADATA_KEY] = as_text(change(json.loads(metadata[METADATA_KEY])))
    target.write_bytes(safetensors_file(header, whole[8 + length :]))


CONFIGS: dict[str, tuple[str, Any]] = {
    "a network of 10^15 weights": ("width", 1e6),
    "an infinite width": ("width", 1e999),
    "a width of text": ("width", "x"),
    "10^9 classes": ("num_classes", 10**9),
    "an input of 10^9 pixels a side": ("size_hw", [10**9, 10**9]),
    "a backbone that is a path": ("backbone", "../../x"),
    "a backbone that is a list": ("backbone", [[[]]]),
}


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_configs(
    kind: str, refused: Attack, tmp_path: Path, picture: Path, small_checkpoint: Path
) -> None:
    """A checkpoint that describes a network far larger than itself."""
    file = tmp_path / "model.safetensors"
    change_header(small_checkpoint, file, _changed(("model", CONFIGS[kind][0]), CONFIGS[kind][1]))
    refused("predict", file, picture)


def broken_onnx(kind: str) -> bytes:
    """The colour model with an attack in its graph."""
    model = colour_model()
    graph = model.graph
    if kind.startswith("weights"):
        place = {"weights elsewhere": "../../secret.bin", "weights anywhere": "/etc/passwd"}[kind]
        cells = next(each for each in graph.initializer if each.name == "cells")
        cells.ClearField("raw_data")
        cells.data_location = TensorProto.EXTERNAL
        cells.external_data.add(key="location", value=place)
        cells.external_data.add(key="length", value=str(16 * 4 * 4))
    elif kind == "a constant of 10^12 numbers":
        graph.initializer.append(
            helper.make_tensor("shape9", TensorProto.INT64, [2], [10**6, 10**6])
        )
        graph.node.append(helper.make_node("ConstantOfShape", ["shape9"], ["huge"]))
        graph.node.append(helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0))
        graph.node.append(helper.make_node("Add", ["scores", "most"], ["scores2"]))
        graph.output[1].name = "scores2"
    elif kind == "another domain":
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = ["raw" if name == "scores" else name for name in names]
        graph.node.append(helper.make_node("RunThis", ["raw"], ["scores"], domain="evil.example"))
        model.opset_import.append(helper.make_opsetid("evil.example", 1))
    elif kind == "names in a circle":
        graph.node.append(helper.make_node("Add", ["p", "scores"], ["q"]))
        graph.node.append(helper.make_node("Add", ["q", "scores"], ["p"]))
    elif kind == "no input":
        del graph.input[:]
    elif kind == "an input of one dimension":
        del graph.input[0].type.tensor_type.shape.dim[1:]
    whole = model.SerializeToString()
    # A message that follows is merged into the first.
    return whole + field(7, deep_graph(3000)) if kind == "depth" else whole


def field(number: int, content: bytes) -> bytes:
    """A field of protobuf, which its own library would not nest so deep."""
    length, size = b"", len(content)
    while size >= 0x80:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def deep_graph(depth: int) -> bytes:
    """A graph with a branch that is a graph with a branch."""
    graph = b""
    for _ in range(depth):
        branch = field(1, b"then_branch") + field(6, graph) + b"\xa0\x01\x05"
        graph = field(1, field(1, b"c") + field(2, b"o") + field(4, b"If") + field(5, branch))
    return graph


ONNX = [
    "weights elsewhere", "weights anywhere", "a constant of 10^12 numbers", "another domain",
    "depth", "names in a circle", "no input", "an input of one dimension",
]  # fmt: skip


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", ONNX)
def test_onnx(kind: str, runtime: str, refused: Attack, tmp_path: Path, picture: Path) -> None:
    pytest.importorskip(runtime)
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(broken_onnx(kind))
    refused("bench", folder / "model.onnx", "--image", picture, "--runtime", runtime)


LAUGHS = "".join(
    f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' if n else '<!ENTITY l0 "lol">' for n in range(12)
)
OPENVINO = {
    "billion laughs": f'<!DOCTYPE net [{LAUGHS}]><net name="&l11;" version="11"><layers/></net>',
    "a file's content": '<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    '<net name="m" version="11"><layers/><rt_info><flyweight value="&x;"/></rt_info></net>',
    "depth": '<net name="m" version="11">' + "<layers>" * 100_000,
    "weights behind the end": '<net name="m" version="11"><layers><layer id="0" name="c" '
    'type="Const" version="opset1"><data element_type="f32" shape="1000000,1000000" offset="0" '
    'size="4000000000000"/><output><port id="0" precision="FP32"><dim>1000000</dim>'
    "<dim>1000000</dim></port></output></layer></layers><edges/></net>",
}


@pytest.mark.parametrize("kind", sorted(OPENVINO))
def test_openvino(kind: str, refused: Attack, tmp_path: Path, picture: Path) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "model.xml").write_text('<?xml version="1.0"?>' + OPENVINO[kind])
    (tmp_path / "model.bin").write_bytes(bytes(100))
    ended = refused("predict", tmp_path / "model.xml", picture, says="model.xml")
    assert "root:" not in ended.said


@pytest.mark.parametrize("suffix", [".tflite", ".param"])
@pytest.mark.parametrize("size", [1, 8, 1000, 100_000])
def test_noise(size: int, suffix: str, refused: Attack, tmp_path: Path, picture: Path) -> None:
    """More of them in tests/runtime, with files that are damaged in one place."""
    noise = np.random.default_rng(size).integers(0, 255, size).astype(np.uint8).tobytes()
    for name in (f"model{suffix}", "model.bin", "model.json"):
        (tmp_path / name).write_bytes(noise)
    refused("predict", tmp_path / f"model{suffix}", picture)


def caffe(dims: list[int], values: int) -> bytes:
    from flyweight.models.conversion.caffe import _messages

    network = _messages()["NetParameter"]()
    blob = network.layer.add(name="conv0", type="Convolution").blobs.add()
    blob.shape.dim.extend(dims)
    blob.data.extend([0.0] * values)
    return bytes(network.SerializeToString())


@pytest.mark.parametrize(
    ("dims", "values"), [([2**32, 2**32], 1), ([2**32, 2**32], 0), ([-1, -4], 4), ([10**12], 3)]
)
def test_caffe_shapes(dims: list[int], values: int, refused: Attack, tmp_path: Path) -> None:
    file = tmp_path / "net.caffemodel"
    file.write_bytes(caffe(dims, values))
    out = tmp_path / "out.safetensors"
    refused("convert", file, "--to", "mobilenet_ssd300", "--out", out, says="net.caffemodel")
    assert not out.exists()
