from __future__ import annotations

import io

import pytest
from rich.console import Console

from flyweight.training.progress import Bar, Lines, Silent, make_display

ROW = {"epoch": 3, "loss": 1.5, "lr": 1e-3, "images_per_second": 12.34}


def test_bar_shows_what_matters() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=140, color_system=None)
    with Bar(console) as bar:
        bar.start(epochs=10, steps=120, done=24)
        bar.step(epoch=3, loss=1.234, lr=5e-4, images_per_second=11.5)
        bar.evaluating(4, 10)
        bar.epoch_done(ROW | {"AP": 0.25, "AP50": 0.5}, 0.26)
        bar.step(epoch=4, loss=1.111, lr=4e-4, images_per_second=11.5)
        bar.note("a note")
    shown = output.getvalue()
    for text in (
        "epoch 4/10", "26/120", "loss 1.111", "lr 4.0e-04", "11.5 images/s", "best AP 0.260",
        "AP 0.250", "AP50 0.500", "a note",
    ):  # fmt: skip
        assert text in shown


def test_lines_are_few_and_say_how_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 100.0, 100.5, 101.0, 101.5])
    lines = Lines()
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    lines.start(epochs=4, steps=40, done=0)
    for _ in range(10):
        lines.step(epoch=1, loss=1.0, lr=0.1, images_per_second=1.0)
    lines.epoch_done(ROW | {"epoch": 1}, None)
    # too soon after the last one, and nothing was measured
    lines.epoch_done(ROW | {"epoch": 2}, None)
    lines.epoch_done(ROW | {"epoch": 3, "AP": 0.3, "AP50": 0.6}, 0.3)
    lines.epoch_done(ROW | {"epoch": 4}, 0.3)
    shown = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in shown] == ["1/4", "3/4", "4/4"]
    assert shown[0].endswith("left 5:00")
    assert "AP 0.300  AP50 0.600  best AP 0.300" in shown[1]


def test_display_by_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(make_display(False), Silent)
    assert isinstance(make_display(), Lines)
