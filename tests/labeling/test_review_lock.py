"""One process at a time; the lock of a dead one keeps nobody out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flyweight.core.errors import InputError
from flyweight.labeling.review_lock import lock_file, lock_labels

HOLDER = """
import sys, time
from pathlib import Path
from flyweight.labeling.review_lock import lock_labels
with lock_labels(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_another_process_is_named_and_its_death_is_noticed(tmp_path: Path) -> None:
    annotations = tmp_path / "annotations" / "instances_train.json"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(annotations)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    with holder.stdout as out:
        assert out.readline() == "held\n"
        with (
            pytest.raises(InputError, match=f"process {holder.pid} is at work"),
            lock_labels(annotations),
        ):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert lock_file(annotations).read_text() == f"{holder.pid}\n"
    with lock_labels(annotations):
        assert lock_file(annotations).read_text() == f"{os.getpid()}\n"


def test_it_is_let_go_after_an_error(tmp_path: Path) -> None:
    annotations = tmp_path / "labels.json"
    with pytest.raises(ZeroDivisionError), lock_labels(annotations):
        1 / 0  # noqa: B018
    with lock_labels(annotations), pytest.raises(InputError), lock_labels(annotations):
        pass
