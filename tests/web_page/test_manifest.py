"""The manifest in an .onnx file, as the page reads it."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from flyweight.core.manifest import Manifest
from tests.runtime.conftest import colour_model
from tests.web_page.node_detector import encoded, run_in_node


def test_the_manifest_that_python_reads(anchor_file: Path) -> None:
    large = colour_model(class_names=("röt", "Grün", "青"))
    # fields of every kind before it, of which one is long
    large.producer_name = "x" * 5000
    large.model_version = 2**40
    large.metadata_props.insert(0, onnx.StringStringEntryProto(key="other", value="y"))
    files = [anchor_file.read_bytes(), large.SerializeToString()]
    answers = run_in_node([{"task": "manifest", "file": encoded(file)} for file in files])
    expected = [onnx.load_from_string(file).metadata_props[-1].value for file in files]
    for answer, text in zip(answers, expected, strict=True):
        assert answer["value"] == json.loads(text)
        assert Manifest.from_json(json.dumps(answer["value"])) == Manifest.from_json(text)


def test_files_that_are_none(anchor_file: Path) -> None:
    whole = anchor_file.read_bytes()
    newer = whole.replace(b'"format_version":1', b'"format_version":9')
    broken = whole.replace(b'{"model":', b'["model":')
    stripped = onnx.load_from_string(whole)
    del stripped.metadata_props[:]
    cases = {
        whole[:-1]: "cut off",
        whole[: len(whole) // 3]: "cut off",
        b"\x89PNG\r\n\x1a\n" * 9: "no ONNX model",
        b"\xff" * 40: "no ONNX model",
        newer: "newer Flyweight",
        broken: "cannot be read",
        stripped.SerializeToString(): "no Flyweight manifest",
    }
    answers = run_in_node([{"task": "manifest", "file": encoded(file)} for file in cases])
    for answer, words in zip(answers, cases.values(), strict=True):
        assert words in answer["error"]
