"""`flyweight label`, and a training on what it wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyweight.data.formats import open_dataset

Run = Callable[..., Any]


@pytest.fixture
def words(tiny_data: Path, tiny_onnx: Path, tmp_path: Path) -> list[str | Path]:
    """The command, which labels the training images as if they had no labels."""
    return [
        "label", tiny_data / "images" / "train", "--teacher", tiny_onnx,
        "--data", tiny_data, "--split", "train", "--out", tmp_path / "made", "--shard", "3",
    ]  # fmt: skip


def test_labels_that_train(
    flyweight: Run,
    words: list[str | Path],
    tiny_data: Path,
    tmp_path: Path,
    training: Callable[[Path, Path], list[str]],
) -> None:
    told = flyweight(*words, "--json").json
    assert (told["images"], told["missing"], told["views"]) == (8, [], ["1", "1 flipped"])
    assert [each["name"] for each in told["classes"]] == ["disc", "block"]
    made = open_dataset(told["out"], "train")
    assert len(made) == 8
    again = flyweight(*words)
    assert again.code == 0
    assert "labels" in again.out
    assert "--extra" in again.out
    run = tmp_path / "run"
    trained = flyweight(
        *training(tiny_data, run), "--epochs", "1", "--extra", told["out"], "--ratio", "0.5",
        "--json",
    )  # fmt: skip
    assert any("8 extra pictures" in text for text in trained.json["notes"])
    assert "ratio: 0.5" in (run / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"--teacher": "gone.onnx"}, ["does not exist", "gone.onnx"]),
        ({"--split": "night"}, ["no split 'night'", "val"]),
        ({"--map": "disc"}, ["not TEACHERS=DATAS"]),
        ({"--map": "circle=disc"}, ["no teacher has a class 'circle'", "disc"]),
        ({"--map": "disc=block"}, ["no class for 'disc'"]),
        ({"--scale": "9"}, ["scale"]),
        ({"--precision": "2"}, ["precision"]),
        ({"--data": "nowhere"}, ["nowhere"]),
        ({"--engine": "spark"}, ["unknown --engine 'spark'", "local or ray"]),
        ({"--workers": "2"}, ["need a cluster", "--engine ray"]),
    ],
)
def test_bad_input(
    flyweight: Run, words: list[str | Path], changes: dict[str, str], parts: list[str]
) -> None:
    given = list(words)
    for option, value in changes.items():
        if option in given:
            given[given.index(option) + 1] = value
        else:
            given += [option, value]
    flyweight(*given).assert_refused(*parts)


def test_no_pictures(flyweight: Run, words: list[str | Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    words[1] = tmp_path / "empty"
    flyweight(*words).assert_refused("no pictures")
    assert not (tmp_path / "made" / "annotations").exists()


def test_a_ratio_of_nothing(
    flyweight: Run, tiny_data: Path, tmp_path: Path, training: Callable[[Path, Path], list[str]]
) -> None:
    flyweight(*training(tiny_data, tmp_path / "run"), "--ratio", "2").assert_refused("--extra")
