from __future__ import annotations

import os
from multiprocessing import get_context
from multiprocessing.context import ForkContext, SpawnContext
from pathlib import Path

import pytest

from flyweight.core.errors import InputError
from flyweight.data.file_watch import FileWatch


def test_a_file_that_stays_is_fine(tmp_path: Path) -> None:
    watch = FileWatch(2)
    file = tmp_path / "a.jpg"
    file.write_bytes(b"12345")
    for _ in range(3):
        watch.check(0, file)
    # Another number is another file.
    file.write_bytes(b"123456")
    watch.check(1, file)


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_file_is_named(tmp_path: Path, change: str) -> None:
    watch = FileWatch(3)
    file = tmp_path / "a.jpg"
    file.write_bytes(b"12345")
    os.utime(file, ns=(10, 10))
    watch.check(2, file)
    file.write_bytes(b"123456" if change == "size" else b"54321")
    os.utime(file, ns=(10, 10 if change == "size" else 11))
    with pytest.raises(InputError, match="changed during the run") as caught:
        watch.check(2, file)
    assert caught.value.where == str(file)


def test_a_missing_file_is_left_to_its_reader(tmp_path: Path) -> None:
    FileWatch(1).check(0, tmp_path / "none.jpg")


@pytest.mark.parametrize("context", [get_context("fork"), get_context("spawn")])
def test_what_another_process_saw_counts(
    tmp_path: Path, context: ForkContext | SpawnContext
) -> None:
    watch = FileWatch(1)
    file = tmp_path / "a.jpg"
    file.write_bytes(b"12345")
    process = context.Process(target=watch.check, args=(0, file))
    process.start()
    process.join()
    assert process.exitcode == 0
    file.write_bytes(b"123456")
    with pytest.raises(InputError):
        watch.check(0, file)
