"""Lines that were acknowledged are there, whatever happened after them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from flyweight.core.errors import InputError
from flyweight.labeling.review_journal import Journal

LINES = [{"decision": 1, "text": "été"}, {"decision": 2, "text": "two\nlines"}]


def write(path: Path) -> None:
    journal = Journal(path)
    for line in LINES:
        journal.append(line)
    journal.close()


def test_round_trip(tmp_path: Path) -> None:
    write(tmp_path / "j.jsonl")
    text = (tmp_path / "j.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in text.splitlines()] == LINES
    journal = Journal(tmp_path / "j.jsonl")
    assert journal.lines == LINES
    journal.clear()
    journal.append({"decision": 3})
    journal.close()
    assert Journal(tmp_path / "j.jsonl").lines == [{"decision": 3}]


def test_an_empty_one_is_removed(tmp_path: Path) -> None:
    Journal(tmp_path / "j.jsonl").close()
    assert not (tmp_path / "j.jsonl").exists()


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_half_a_line_at_the_end_is_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j.jsonl"
    write(path)
    os.truncate(path, path.stat().st_size - cut)
    journal = Journal(path)
    assert journal.lines == LINES[:1]
    journal.append({"decision": 9})
    journal.close()
    assert Journal(path).lines == [LINES[0], {"decision": 9}]


def test_a_broken_line_in_the_middle_is_no_tail(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"decision": 1}\n{"deci\n{"decision": 3}\n')
    with pytest.raises(InputError, match=r"cannot be read.*j\.jsonl"):
        Journal(path)


WRITER = """
import json, sys
from pathlib import Path
from flyweight.labeling.review_journal import Journal
journal = Journal(Path(sys.argv[1]))
kept = 0
for number in range(50):
    try:
        journal.append({"decision": number, "text": "x" * 100})
        kept += 1
    except OSError:
        break
try:
    journal.append({"decision": "short"})
    short = True
except OSError:
    short = False
print(json.dumps([kept, short]))
"""


@pytest.mark.parametrize("room", [1000, 1010, 1100])
def test_a_file_that_may_not_grow_any_more(tmp_path: Path, room: int) -> None:
    """The kernel takes a part of the last line, as it does on a full disk, and refuses the rest."""
    told = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path / "j.jsonl")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
        capture_output=True,
        text=True,
        check=True,
    )
    kept, short = json.loads(told.stdout)
    line = len(json.dumps({"decision": 1, "text": "x" * 100})) + 1
    assert kept == room // line
    numbers = [each["decision"] for each in Journal(tmp_path / "j.jsonl").lines]
    assert numbers == [*range(kept), *(["short"] if short else [])]
