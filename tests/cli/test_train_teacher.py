"""`flyweight train --teacher`: a run that learns from a file, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flyweight.models.detectors import checkpoint
from flyweight.models.detectors.classes import replace_classes

Run = Callable[..., Any]
Words = Callable[[Path, Path], list[str]]


def test_a_checkpoint_teaches_its_like(
    flyweight: Run, training: Words, tiny_data: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = [
        *training(tiny_data, run), "--epochs", "1", "--teacher", str(tiny_checkpoint),
        "--distill", "logits, features", "--distill-weight", "1,0.5",
    ]  # fmt: skip
    assert flyweight(*words, "--json").json["epochs"] == 1
    recipe = yaml.safe_load((run / "config.yaml").read_text())["recipe"]
    assert recipe["teacher"] == str(tiny_checkpoint)
    assert recipe["distill"] == ["logits", "features"]
    assert recipe["distill_weights"] == [1.0, 0.5]
    assert "loss_distill_features" in (run / "metrics.jsonl").read_text()
    assert checkpoint.load_manifest(run / "best.safetensors").lineage["teacher"]["name"]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--distill", "boxes"], ["--distill without --teacher"]),
        (["--teacher", "gone.safetensors"], ["no such checkpoint", "gone.safetensors"]),
        (["--teacher", "picture.jpg"], ["no teacher", ".safetensors"]),
        (["--teacher", "t.onnx", "--distill", "logit"], ["unknown distill 'logit'", "boxes"]),
        (["--teacher", "t.onnx", "--distill-weight", "much"], ["'much'", "1,0.5"]),
        (["--teacher", "t.onnx", "--distill-weight", "1,2"], ["2 weights for 1 kinds"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_what_cannot_teach_is_refused(
    flyweight: Run,
    training: Words,
    tiny_data: Path,
    tmp_path: Path,
    options: list[str],
    parts: list[str],
) -> None:
    flyweight(*training(tiny_data, tmp_path / "run"), *options).assert_refused(*parts)
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_other_classes_is_refused(
    flyweight: Run, training: Words, tiny_data: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    checkpoint.save(replace_classes(checkpoint.load(tiny_checkpoint), ("disc", "cone")), other)
    words = [*training(tiny_data, tmp_path / "run"), "--teacher", str(other)]
    flyweight(*words).assert_refused("'block'", "'cone'", "other.safetensors")
