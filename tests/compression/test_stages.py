"""Stages: what is finished is kept, what has changed is made anew with all that follows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyweight.compression.stages import Say, Stage, run_stages


class Kitchen:
    """Stages that append their name to a text, and a list of those that did."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.start = out.parent / "start.txt"
        self.start.write_text("start", encoding="utf-8")
        self.made: list[str] = []

    def stage(self, name: str, amount: int = 1, *, goes_on: bool = False) -> Stage:
        def make(before: Path, folder: Path, _: Say) -> Path:
            self.made.append(name)
            (folder / "begun").touch()
            file = folder / "text.txt"
            file.write_text(f"{before.read_text(encoding='utf-8')} {name} {amount}")
            return file

        return Stage(name, {"amount": amount, "as": (1, 2)}, make, goes_on=goes_on)

    def run(self, *stages: Stage) -> str:
        """What the last stage left."""
        self.made.clear()
        last = run_stages(self.start, stages, self.out, say=lambda line: None)[-1]
        return last.file.read_text(encoding="utf-8")


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path / "out")


def test_a_second_time_nothing_is_made(kitchen: Kitchen) -> None:
    for made in (["prune", "fine tune"], []):
        text = kitchen.run(kitchen.stage("prune"), kitchen.stage("fine tune"))
        assert text == "start prune 1 fine tune 1"
        assert kitchen.made == made
    assert (kitchen.out / "2-fine-tune" / "text.txt").is_file()


def test_one_stage_more_makes_that_one(kitchen: Kitchen) -> None:
    kitchen.run(kitchen.stage("prune"))
    assert kitchen.run(kitchen.stage("prune"), kitchen.stage("fold")) == "start prune 1 fold 1"
    assert kitchen.made == ["fold"]


def test_another_setting_or_input_makes_all_that_follow(kitchen: Kitchen) -> None:
    kitchen.run(kitchen.stage("prune"), kitchen.stage("fold"))
    text = kitchen.run(kitchen.stage("prune", 2), kitchen.stage("fold"))
    assert (text, kitchen.made) == ("start prune 2 fold 1", ["prune", "fold"])
    kitchen.start.write_text("other", encoding="utf-8")
    kitchen.run(kitchen.stage("prune", 2), kitchen.stage("fold"))
    assert kitchen.made == ["prune", "fold"]


def test_a_stage_whose_file_is_gone_is_made_again(kitchen: Kitchen) -> None:
    kitchen.run(kitchen.stage("prune"))
    (kitchen.out / "1-prune" / "text.txt").unlink()
    kitchen.run(kitchen.stage("prune"))
    assert kitchen.made == ["prune"]


@pytest.mark.parametrize("goes_on", [True, False])
def test_an_interrupted_stage(kitchen: Kitchen, goes_on: bool) -> None:
    found: list[bool] = []

    def make(before: Path, folder: Path, _: Say) -> Path:
        found.append((folder / "begun").is_file())
        (folder / "begun").touch()
        if len(found) == 1:
            raise KeyboardInterrupt
        (folder / "text.txt").write_text("whole", encoding="utf-8")
        return folder / "text.txt"

    stage = Stage("train", {}, make, goes_on=goes_on)
    with pytest.raises(KeyboardInterrupt):
        kitchen.run(stage)
    assert kitchen.run(stage) == "whole"
    assert found == [False, goes_on]


def test_a_damaged_record_is_no_record(kitchen: Kitchen) -> None:
    kitchen.run(kitchen.stage("prune"))
    (kitchen.out / "1-prune" / "stage.json").write_text("[1", encoding="utf-8")
    kitchen.run(kitchen.stage("prune"))
    assert kitchen.made == ["prune"]
