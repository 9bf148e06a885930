"""Compression as a whole: the order of its stages, and every one of them on a small detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flyweight as fw
from flyweight.compression.prune_target import Target
from flyweight.core.errors import InputError
from flyweight.data.scenes import save_scenes
from flyweight.models.detectors import checkpoint
from flyweight.pipeline.compress import CompressionPlan


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few drawn pictures for each split."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    save_scenes(folder, train=8, val=2, test=2, size_hw=(96, 128))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """A checkpoint of a small detector of their classes."""
    classes = fw.open_dataset(scenes, "train").class_names
    detector = fw.build("ssdlite320_mobilenet_v2", classes=classes, size=96, width=0.25)
    file = tmp_path_factory.mktemp("model") / "model.safetensors"
    checkpoint.save(detector, file)
    return file


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"target": Target(share=0.5)}, ["pruned", "fine-tuned"]),
        ({"target": Target(share=0.5), "fine_tune": 0, "fold": True}, ["pruned", "folded"]),
        ({"teacher": "model"}, ["fine-tuned"]),
        (
            {"precision": "int8", "int8_epochs": 2, "fold": True, "target": Target(share=0.5)},
            ["pruned", "fine-tuned", "folded", "int8-aware", "int8"],
        ),
        ({"precision": "fp16"}, ["fp16"]),
    ],
)
def test_the_order_of_the_stages(
    asked: dict[str, Any], names: list[str], scenes: Path, model: Path
) -> None:
    if "teacher" in asked:
        asked = asked | {"teacher": model}
    assert [stage.name for stage in CompressionPlan(**asked).stages(scenes)] == names


def test_plans_that_cannot_be(scenes: Path) -> None:
    with pytest.raises(InputError, match="nothing to do"):
        CompressionPlan().stages(scenes)
    with pytest.raises(InputError, match="int8"):
        CompressionPlan(int8_epochs=3)
    with pytest.raises(InputError, match="int4"):
        CompressionPlan(precision="int4")
    with pytest.raises(InputError, match="tflite"):
        CompressionPlan(format="tflite")


def test_folding_costs_nothing(scenes: Path, model: Path, tmp_path: Path) -> None:
    said: list[str] = []
    options: dict[str, Any] = {"fold": True, "repeats": 1, "say": said.append}
    done = fw.compress(model, scenes, tmp_path / "out", **options)
    start, folded = done.ledger.rows
    assert [each.name for each in done.made] == ["start", "folded"]
    assert checkpoint.load(done.made[1].file).config.folded
    assert abs(folded.AP - start.AP) < 1e-3
    assert folded.mb < start.mb
    assert folded.macs == start.macs
    assert done.report.is_file()
    fw.compress(model, scenes, tmp_path / "out", **options)
    assert any("done before" in line for line in said)


@pytest.mark.slow  # three trainings of an epoch, and int8
def test_every_stage(scenes: Path, model: Path, tmp_path: Path) -> None:
    done = fw.compress(
        model, scenes, tmp_path / "out", prune=0.6, teacher=model, fine_tune=1, fold=True,
        int8_epochs=1, precision="int8", max_loss=100.0, repeats=1,
    )  # fmt: skip
    rows = {row.stage: row for row in done.ledger.rows}
    assert list(rows) == ["start", "pruned", "fine-tuned", "folded", "int8-aware", "int8"]
    assert rows["pruned"].macs <= 0.6 * rows["start"].macs
    assert rows["int8"].macs == rows["int8-aware"].macs == rows["folded"].macs
    # Of so small a network the int8 file is the graph, not the weights.
    assert rows["int8-aware"].mb < rows["start"].mb
    tuned = checkpoint.load(done.made[2].file)
    assert tuned.lineage["teacher"]["distilled"] == ["logits"]
    assert fw.load(done.made[-1].file).class_names == tuned.class_names
