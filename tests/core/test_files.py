from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from flyweight.core.errors import InputError
from flyweight.core.files import write_atomically


def test_replaces_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "note.txt"
    for text in ("first", "second"):
        with write_atomically(target) as temporary:
            temporary.write_text(text)
            assert temporary.suffix == ".txt"
        assert target.read_text() == text
    assert os.listdir(target.parent) == ["note.txt"]


def test_failure_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "note.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), write_atomically(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["note.txt"]


def test_full_disk_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="disk is full"), write_atomically(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_really_full_disk(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(InputError, match="disk is full"),
        write_atomically(tmp_path / "a") as temporary,
    ):
        temporary.unlink()
        temporary.symlink_to(full)
        temporary.write_bytes(b"x" * 10)
    assert os.listdir(tmp_path) == []
