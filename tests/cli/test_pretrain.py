"""`flyweight pretrain`: its JSON, the way to `train --pretrained`, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def words(data: Path, out: Path) -> list[str]:
    """The smallest pretraining there is."""
    return [
        "pretrain", "mobilenet_v3_small", "--data", str(data), "--out", str(out), "--size", "32",
        "--width", "0.35", "--epochs", "1", "--batch", "8", "--workers", "0", "--device", "cpu",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def pretrained(flyweight: Run, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What it said of a run on the objects of the tiny data."""
    out = tmp_path_factory.mktemp("runs") / "pretrained"
    return flyweight(*words(tiny_data, out), "--json").json


def test_json(pretrained: Any) -> None:
    assert set(pretrained["metrics"]) == {"top1", "balanced_accuracy"}
    assert all(0 <= value <= 1 for value in pretrained["metrics"].values())
    assert pretrained["classes"][:2] == ["disc", "block"]
    assert (pretrained["backbone"], pretrained["width"]) == ("mobilenet_v3_small", 0.35)
    assert pretrained["images_per_second"] > 0
    assert Path(pretrained["checkpoint"]) == Path(pretrained["run"]) / "best.safetensors"
    left = {path.name for path in Path(pretrained["run"]).iterdir()}
    assert {"config.yaml", "metrics.jsonl", "last.safetensors", "resume.pt"} <= left


def test_train_starts_from_the_file(
    flyweight: Run, pretrained: Any, training: Any, tiny_data: Path, tmp_path: Path
) -> None:
    start = ("--pretrained", pretrained["checkpoint"], "--epochs", "1", "--json")
    trained = flyweight(*training(tiny_data, tmp_path / "run"), *start).json
    assert Path(trained["checkpoint"]).is_file()
    wider = flyweight(*training(tiny_data, tmp_path / "wide"), *start, "--width", "0.5")
    wider.assert_refused("width 0.35, not 0.5", "best.safetensors")


def test_for_people(flyweight: Run, tiny_data: Path, tmp_path: Path) -> None:
    shown = flyweight(*words(tiny_data, tmp_path / "run"))
    assert shown.code == 0
    assert "top-1" in shown.out
    assert "--width 0.35 --pretrained" in shown.out
    assert "epoch 1/1" in shown.err


def test_what_is_refused(flyweight: Run, pretrained: Any, tiny_data: Path, tmp_path: Path) -> None:
    empty, out = tmp_path / "empty", tmp_path / "run"
    empty.mkdir()
    flyweight(*words(empty, out)).assert_refused("neither folders of classes", "empty")
    flyweight(*words(tmp_path / "nowhere", out)).assert_refused("nowhere")
    unknown = words(tiny_data, out)
    unknown[1] = "mobilenet"
    flyweight(*unknown).assert_refused("unknown backbone", "mobilenet_v1")
    flyweight(*words(tiny_data, out), "--label-smoothing", "1").assert_refused("label_smoothing")
    flyweight(*words(tiny_data, out), "--precision", "fp8").assert_refused("fp8")
    flyweight(*words(tiny_data, out), "--norm", "layer").assert_refused("unknown norm 'layer'")
    nowhere = ("--pretrained", str(tmp_path / "no.safetensors"))
    flyweight(*words(tiny_data, out), *nowhere).assert_refused("no such weights file")
    assert not out.exists()
    flyweight(*words(tiny_data, Path(pretrained["run"]))).assert_refused("run in this folder")


def test_a_broken_image(flyweight: Run, own_data: Path, tmp_path: Path) -> None:
    image = sorted((own_data / "images" / "train").iterdir())[0]
    image.write_bytes(image.read_bytes()[:400])
    flyweight(*words(own_data, tmp_path / "run")).assert_refused(image.name)
