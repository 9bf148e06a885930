"""`flyweight compress`: every stage leaves a checkpoint, and the ledger tells what it cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyweight.models.detectors import checkpoint

Run = Callable[..., Any]
WORDS = ("--prune", "0.8", "--fine-tune", "0", "--fold", "--repeats", "1")


def test_stages_and_their_ledger(
    flyweight: Run, tiny_checkpoint: Path, tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "compressed"
    words = ("compress", tiny_checkpoint, "--data", tiny_data, "--out", out, *WORDS, "--json")
    content = flyweight(*words).json
    start, pruned, folded = (checkpoint.load(each["file"]) for each in content["stages"])
    assert start.config.pruned == ()
    assert pruned.config.pruned == folded.config.pruned != ()
    assert folded.config.folded
    assert [row["stage"] for row in content["ledger"]] == ["start", "pruned", "folded"]
    first, second, third = content["ledger"]
    assert 0.5 * first["macs"] < second["macs"] <= 0.8 * first["macs"]
    assert third["macs"] == second["macs"]
    assert third["mb"] < second["mb"] < first["mb"]
    assert set(first["runtimes"]) >= {"torch", "onnxruntime"}
    assert "difference" not in first
    assert set(second["difference"]["AP"]) == {"value", "low", "high"}
    assert json.loads((out / "ledger.json").read_text()) == content["ledger"]
    assert "folded" in Path(content["report"]).read_text()
    again = flyweight(*words)
    assert again.json["stages"] == content["stages"]
    assert again.err.count("done before") == 2


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((), "nothing to do"),
        (("--prune", "2"), "share"),
        (("--prune", "0.5", "--prune-unit", "ms"), "--calibrate"),
        (("--prune", "0.5", "--importance", "luck"), "luck"),
        (("--quantize", "int4"), "int4"),
        (("--quantize", "int8", "--to", "tflite"), "tflite"),
    ],
)
def test_what_it_cannot_do(
    flyweight: Run, tiny_checkpoint: Path, tiny_data: Path, tmp_path: Path,
    words: tuple[str, ...], part: str,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    flyweight(
        "compress", tiny_checkpoint, "--data", tiny_data, "--out", out, *words
    ).assert_refused(part)
