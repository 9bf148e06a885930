"""`flyweight profile`: the figures of a model, on the terminal, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.html_page import Page, refers_outside

MODEL = "retinanet_snet"


def test_json_has_the_figures(flyweight: Callable[..., Any]) -> None:
    found = flyweight("profile", MODEL, "--size", "224", "--classes", "1", "--json").json
    assert found["macs"] / 1e6 == pytest.approx(165, rel=0.01)
    assert found["input_shape"] == [1, 3, 224, 224]
    for key in ("params", "macs", "memory_access_bytes"):
        for rows in ("layers", "stages", "operators"):
            assert sum(row[key] for row in found[rows]) == found[key]
    assert (
        max(row["peak_activation_bytes"] for row in found["layers"])
        == (found["peak_activation_bytes"])
    )
    assert [level["grid"] for level in found["levels"]] == [[14, 14], [7, 7], [4, 4], [2, 2]]
    stem = found["layers"][0]
    assert (stem["name"], stem["stride"]) == ("backbone.layers.stem.conv", 2)


def test_parameters_are_those_of_the_list_of_models(flyweight: Callable[..., Any]) -> None:
    models = flyweight("models", "--json").json["models"]
    listed = next(each["parameters"] for each in models if each["name"] == MODEL)
    assert flyweight("profile", MODEL, "--json").json["params"] == listed


def test_a_checkpoint_has_its_own_size_and_classes(
    flyweight: Callable[..., Any], tiny_checkpoint: Path
) -> None:
    found = flyweight("profile", tiny_checkpoint, "--json").json
    assert found["input_shape"] == [1, 3, 64, 64]
    larger = flyweight("profile", tiny_checkpoint, "--size", "128", "--batch", "2", "--json").json
    assert larger["input_shape"] == [2, 3, 128, 128]
    assert larger["params"] == found["params"]


def test_folding_saves_what_norms_read_and_write(flyweight: Callable[..., Any]) -> None:
    words = ("profile", "ssdlite320_mobilenet_v3_small", "--size", "64", "--json")
    plain, folded = flyweight(*words).json, flyweight(*words, "--folded").json
    assert folded["macs"] == plain["macs"]
    assert folded["memory_access_bytes"] < plain["memory_access_bytes"]
    assert "batch_norm" not in {each["name"] for each in folded["operators"]}


@pytest.mark.parametrize(("by", "row"), [("stage", "neck"), ("operator", "group_norm")])
def test_table(flyweight: Callable[..., Any], by: str, row: str) -> None:
    shown = flyweight("profile", MODEL, "--size", "128", "--by", by)
    assert shown.code == 0
    assert any(line.split()[:1] == [row] for line in shown.out.splitlines())
    assert "stride 128" in shown.out
    table = shown.out.partition("access: ")[0]
    assert max(map(len, table.splitlines())) <= 80


def test_layers_have_their_whole_names_in_a_pipe(flyweight: Callable[..., Any]) -> None:
    shown = flyweight("profile", MODEL, "--size", "128", "--by", "layer").out
    assert "head.classification.tower.2.norm" in shown


def test_effective_fields(flyweight: Callable[..., Any], tiny_checkpoint: Path) -> None:
    levels = flyweight("profile", tiny_checkpoint, "--effective", "--json").json["levels"]
    assert all(0 < level["effective_field"] <= 128 for level in levels)


def test_page(
    flyweight: Callable[..., Any], tiny_checkpoint: Path, tiny_data: Path, tmp_path: Path
) -> None:
    page = tmp_path / "profile.html"
    outcome = flyweight("profile", tiny_checkpoint, "--html", page, "--data", tiny_data)
    assert outcome.code == 0
    assert str(page) in outcome.out
    text = page.read_text(encoding="utf-8")
    assert not refers_outside(text)
    assert len(Page(text).all("image")) == 6


def test_advice_knows_what_the_detector_is_for(flyweight: Callable[..., Any]) -> None:
    options = ("--advice", "--precision", "int8", "--train-batch", "4", "--json")
    found = flyweight("profile", "ssdlite320_mobilenet_v3_small", "--size", "128", *options).json
    assert {"int8_activations", "small_batches"} <= {row["rule"] for row in found["advice"]}


def test_advice_names_layers_of_the_network(flyweight: Callable[..., Any]) -> None:
    found = flyweight("profile", MODEL, "--size", "128", "--advice", "--json").json
    layers = {row["name"] for row in found["layers"]}
    assert found["advice"]
    for row in found["advice"]:
        assert set(row["layers"]) <= layers
        assert row["change"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("retinanet_snail",), ("retinanet_snail", "retinanet_snet")),
        ((MODEL, "--by", "colour"), ("colour", "operator")),
        ((MODEL, "--size", "8"), ("8x8", "too small")),
        ((MODEL, "--width", "0"), ("width",)),
        ((MODEL, "--data", "somewhere"), ("--html",)),
        (("missing.safetensors",), ("missing.safetensors",)),
        (("model.onnx",), ("bench",)),
        (("model.safetensors", "--width", "0.5"), ("--width",)),
        ((), ("no model", "flyweight models")),
        ((MODEL, "--measure", "caffe"), ("caffe", "openvino")),
        ((MODEL, "--apply", "x.yaml"), ("--advice",)),
        ((MODEL, "--precision", "int8"), ("--advice",)),
        ((MODEL, "--advice", "--precision", "int4"), ("fp32, int8",)),
        ((MODEL, "--calibrate", "x.json"), ("leave the model out",)),
        ((MODEL, "--device-model", "missing.json"), ("missing.json",)),
    ],
)
def test_bad_input(
    flyweight: Callable[..., Any], words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    flyweight("profile", *words).assert_refused(*parts)
