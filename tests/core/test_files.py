from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flyweight.core import files
from flyweight.core.errors import InputError
from flyweight.core.files import scratch_folder, write_atomically


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


def leave_behind(folder: Path) -> None:
    """A process that is killed while it writes a file and fills a scratch folder."""
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from flyweight.core.files import scratch_folder, write_atomically\n"
        "folder = Path(sys.argv[1])\n"
        "with write_atomically(folder / 'a.txt') as file, scratch_folder(folder) as scratch:\n"
        "    file.write_text('half')\n"
        "    (scratch / 'b').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(folder)], check=False)
    assert ended.returncode == -signal.SIGKILL


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".mine.part").write_text("not of ours")
    with write_atomically(tmp_path / "open.txt") as held, scratch_folder(tmp_path) as scratch:
        files._tidied.clear()
        leave_behind(tmp_path)
        assert len(list(tmp_path.iterdir())) == 5
        with write_atomically(tmp_path / "c.txt") as written:
            written.write_text("whole")
        with scratch_folder(tmp_path):
            pass
        # what a living process works on stays
        assert held.exists()
        assert scratch.is_dir()
        held.write_text("open")
    assert {path.name for path in tmp_path.iterdir()} == {".mine.part", "open.txt", "c.txt"}


def test_a_scratch_folder_that_is_renamed_stays(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as scratch:
        (scratch / "a").touch()
        scratch.rename(tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "a").exists()
