from __future__ import annotations

from collections.abc import Callable
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any

import pytest

from flyweight.core.errors import InputError
from flyweight.training import reader_notes
from flyweight.training.reader_notes import PICTURES, ReaderNotes, lost_readers_named


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_notes, "PATIENCE_SECONDS", 0.1)


def samples_of(notes: ReaderNotes) -> Any:
    paths = [SimpleNamespace(path=f"{number}.jpg") for number in range(20)]
    return SimpleNamespace(notes=notes, dataset=paths)


def process_that(work: Callable[[ReaderNotes], None], *, ends: bool = True) -> tuple[Any, Any]:
    """The notes of a process that did its work as reader number 1 of 2 and ended, or waits."""
    notes, context = ReaderNotes(workers=2), get_context("fork")
    done, leave = context.Event(), context.Event()

    def run() -> None:
        notes.bind(1)
        work(notes)
        done.set()
        if not ends:
            leave.wait(20)

    process = context.Process(target=run)
    process.start()
    assert done.wait(20)
    if ends:
        process.join()
    return notes, leave


def three_pictures(notes: ReaderNotes) -> None:
    notes.begin(2)
    notes.end()
    notes.begin(7)
    notes.add(3)
    notes.add(4)


@pytest.mark.parametrize("error", [RuntimeError, EOFError, ConnectionResetError])
def test_the_pictures_of_a_dead_process_are_named(error: type[Exception]) -> None:
    notes, _ = process_that(three_pictures)
    with (
        pytest.raises(InputError, match="has died") as caught,
        lost_readers_named(samples_of(notes)),
    ):
        raise error
    assert caught.value.where == "7.jpg, 3.jpg, 4.jpg"


def test_a_process_that_died_between_two_pictures() -> None:
    def one_picture(notes: ReaderNotes) -> None:
        notes.begin(1)
        notes.end()

    notes, _ = process_that(one_picture)
    with pytest.raises(InputError) as caught, lost_readers_named(samples_of(notes)):
        raise EOFError
    assert caught.value.where == "between two pictures"


def test_a_long_sample_is_cut() -> None:
    def many_pictures(notes: ReaderNotes) -> None:
        notes.begin(0)
        for number in range(1, 2 * PICTURES):
            notes.add(number)

    notes, _ = process_that(many_pictures)
    assert notes.of_the_dead() == [list(range(PICTURES))]


def test_other_errors_pass_while_all_live() -> None:
    notes, leave = process_that(three_pictures, ends=False)
    assert notes.of_the_dead() is None
    with (
        pytest.raises(RuntimeError, match="CUDA out of memory"),
        lost_readers_named(samples_of(notes)),
    ):
        raise RuntimeError("CUDA out of memory")
    leave.set()


def test_the_main_process_takes_no_notes() -> None:
    notes = ReaderNotes(workers=0)
    notes.begin(1)
    notes.add(2)
    notes.end()
    assert notes.of_the_dead() is None
