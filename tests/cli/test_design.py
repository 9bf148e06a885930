"""`flyweight design`: presets and a page from a budget, and a preset that trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyweight.core.manifest import Manifest
from flyweight.models.detectors.checkpoint import load_manifest
from flyweight.models.detectors.zoo import build
from tests.html_page import Page, refers_outside

# the fixtures `flyweight` and `training`
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def designed(
    flyweight: Run, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("design")
    found: dict[str, Any] = flyweight(
        "design", "--data", tiny_data, "--budget", "150 MMACs", "--trials", "8", "--count", "2",
        "--out", out, "--json",
    ).json  # fmt: skip
    return found


def test_presets_fit_and_build(designed: dict[str, Any]) -> None:
    assert designed["budget"] == {"metric": "macs", "limit": 150e6}
    assert 0 < designed["within_budget"] <= designed["tried"] <= 8
    assert 1 <= len(designed["recommended"]) <= 2
    for row in designed["recommended"]:
        assert row["spent"] == row["macs"] <= 150e6
        assert row["milliseconds"] is None
        config = build(row["preset"], classes=["disc", "block"]).config
        assert (config.backbone, config.width) == (row["backbone"], row["width"])


def test_page_opens_without_a_network(designed: dict[str, Any]) -> None:
    text = Path(designed["report"]).read_text(encoding="utf-8")
    assert refers_outside(text) == []
    assert Page(text).all("svg")


def test_the_same_seed_recommends_the_same(
    designed: dict[str, Any], flyweight: Run, tiny_data: Path, tmp_path: Path
) -> None:
    outcome = flyweight(
        "design", "--data", tiny_data, "--budget", "150 MMACs", "--trials", "8", "--count", "2",
        "--out", tmp_path,
    )  # fmt: skip
    assert outcome.code == 0
    for row in designed["recommended"]:
        name = Path(row["preset"]).name
        assert (tmp_path / name).read_bytes() == Path(row["preset"]).read_bytes()


def test_a_preset_trains_and_goes_on(
    flyweight: Run, training: Callable[[Path, Path], list[str]], tiny_data: Path, tmp_path: Path
) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text(
        "model: ssdlite\nbackbone: mobilenet_v3_small\nsize_hw: [96, 64]\nwidth: 1.0\n"
    )
    words = training(tiny_data, tmp_path / "run")
    words[1] = str(preset)
    words.remove("--size")
    words.remove("64")
    trained = flyweight(*words, "--epochs", "1", "--json").json
    manifest: Manifest = load_manifest(trained["checkpoint"])
    assert manifest.model["name"] == "ssdlite"
    assert manifest.model["size_hw"] == [96, 64]
    # what is given beside the file goes first
    assert manifest.model["width"] == 0.35
    assert flyweight(*words, "--epochs", "1", "--resume", "--json").json["epochs"] == 1
    assert flyweight("data", "check", tiny_data, "--model", preset, "--json").code == 0


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--budget", "fast"], ["'fast' is no budget", "--budget"]),
        (["--budget", "8 ms", "--trials", "1"], ["--calibrate"]),
        (
            ["--budget", "1 kB", "--trials", "1"],
            ["no detector with the head ssdlite fits", "give more"],
        ),
        (["--budget", "1 MMACs", "--head", "detr"], ["detr", "ssdlite"]),
        (["--budget", "8 ms", "--device-model", "none.json"], ["none.json"]),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], parts: list[str], flyweight: Run, tiny_data: Path, tmp_path: Path
) -> None:
    outcome = flyweight("design", "--data", tiny_data, *words, "--out", tmp_path / "out")
    outcome.assert_refused(*parts)
    assert not (tmp_path / "out").exists()
