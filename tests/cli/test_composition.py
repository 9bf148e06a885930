"""Models composed on the command line, and others' weights brought in by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flyweight.cli.train import config_fields
from flyweight.core.errors import InputError
from flyweight.models.backbones import BACKBONES
from flyweight.models.detectors import build, load


def test_a_model_is_composed_trained_and_read_back(
    flyweight: Callable[..., Any], tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ["--model", "retinanet", "--backbone", "ghostnet", "--width", "0.25", "--size", "96"]
    more = ["--neck", "pan", "--set", "neck_channels=32", "--set", "tower_channels=[32]"]
    result = flyweight(
        "train", *words, *more, "--data", tiny_data, "--out", out, "--epochs", "1",
        "--batch", "4", "--device", "cpu", "--workers", "0", "--json",
    ).json  # fmt: skip
    config = load(result["checkpoint"]).config
    assert (config.family, config.backbone, config.neck) == ("retinanet", "ghostnet", "pan")
    assert config.width == 0.25
    assert config.size_hw == (96, 96)
    assert config.tower_channels == (32,)


def test_what_cannot_be_composed_is_said(
    flyweight: Callable[..., Any], tiny_data: Path, tmp_path: Path
) -> None:
    def refused(*words: str) -> Any:
        return flyweight("train", *words, "--data", tiny_data, "--out", tmp_path / "run")

    refused("--backbone", "ghostnet").assert_refused("no model is named")
    refused("retinanet", "--backbone", "ghostnett").assert_refused("did you mean ghostnet")
    refused("retinanet", "--neck", "tie").assert_refused("unknown neck 'tie'", "fpn")
    refused("retinanet", "--set", "depth=3").assert_refused("unknown option 'depth'")
    refused("retinanet", "--set", "depth").assert_refused("not FIELD=VALUE")
    refused("ssd300_vgg16", "--size", "64").assert_refused("input size 64x64 is too small")
    refused(
        "retinanet", "--backbone", "mobilenet_v2", "--set", 'levels=["C3","C7"]'
    ).assert_refused("the neck 'fpn' reads C3, C7", "'C7'")
    assert not (tmp_path / "run").exists()


def test_fields_are_json_or_text() -> None:
    words = ["head=conv1x1", "match-iou=0.4", "l2_norm=true", "extras=[64, 32]"]
    assert config_fields(words) == {
        "head": "conv1x1",
        "match_iou": 0.4,
        "l2_norm": True,
        "extras": (64, 32),
    }
    with pytest.raises(InputError):
        config_fields(["=3"])


def test_backbones_are_listed(flyweight: Callable[..., Any]) -> None:
    rows = flyweight("models", "--backbones", "--json").json["backbones"]
    assert [row["name"] for row in rows] == list(BACKBONES)
    by_name = {row["name"]: row for row in rows}
    assert by_name["resnet50"]["params"] == 25_557_032  # torchvision's metadata
    assert by_name["resnet50"]["channels"] == [256, 512, 1024, 2048]


def test_convert_writes_a_checkpoint(flyweight: Callable[..., Any], tmp_path: Path) -> None:
    name = "ssdlite320_mobilenet_v3_small"
    theirs = build(name, classes=["a", "b", "c"])
    weights = {f"net.{key}": value for key, value in theirs.model.state_dict().items()}
    torch.save(weights, tmp_path / "theirs.pth")
    out = tmp_path / "deep" / "ours.safetensors"
    words = ("convert", tmp_path / "theirs.pth", "--to", name)
    content = flyweight(*words, "--out", out, "--classes", "cat, dog, cow", "--json").json
    assert content["classes"] == ["cat", "dog", "cow"]
    ours = load(out)
    for key, tensor in theirs.model.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(ours.model.state_dict()[key], tensor)
    flyweight(*words, "--out", tmp_path / "ours.pth").assert_refused(".safetensors")
    flyweight(*words, "--out", out, "--classes", "one").assert_refused("weights do not fit")
    other = ("convert", tmp_path / "theirs.pth", "--to", "retinanet_resnet50_fpn", "--out", out)
    flyweight(*other).assert_refused("weights do not fit", "net.backbone", "[16, 3, 3, 3]")
