"""The command, killed while decisions come in: every one that was answered is there afterwards."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flyweight.labeling.review_store import open_store
from tests.labeling.review_data import ask, boxes_in, decide, write_labels

MOST_S = 120


COMMAND = """
import signal, sys
# what a shell starts in the background ignores it
signal.signal(signal.SIGINT, signal.default_int_handler)
from flyweight.cli.main import main
from flyweight.labeling import review_store
review_store.FOLD_EVERY_S, review_store.FOLD_SHARE = float(sys.argv[1]), 0
main(["label", "--review", sys.argv[2], "--no-open"])
"""


def start(root: Path, fold_every_s: float = 1) -> tuple[subprocess.Popen[str], str]:
    """`flyweight label --review ROOT` as a process of its own, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(fold_every_s), str(root)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://\S+", line):
            return process, found[0]
    raise AssertionError("no address")


def add_boxes(address: str, answered: list[int], enough: threading.Event) -> None:
    """Add boxes to the third picture, each one pixel further, until nobody answers."""
    for number in range(100000):
        try:
            status, _ = decide(
                address, 2, number, action="add", category=1,
                box_xyxy=[number % 70, number // 70, number % 70 + 2, number // 70 + 2],
            )  # fmt: skip
        except (OSError, http.client.HTTPException):
            return
        assert status == 200
        answered.append(number)
        if number == 40:
            enough.set()


@pytest.mark.parametrize("fold_every_s", [0.001, 60])
def test_no_answered_decision_is_lost(tmp_path: Path, fold_every_s: float) -> None:
    """With the COCO file written again and again at that moment, and not at all."""
    labels = write_labels(tmp_path / "out")
    process, address = start(tmp_path / "out", fold_every_s)
    answered: list[int] = []
    enough = threading.Event()
    thread = threading.Thread(target=add_boxes, args=(address, answered, enough))
    thread.start()
    assert enough.wait(MOST_S)
    process.send_signal(signal.SIGKILL)
    thread.join(MOST_S)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    # whole at any moment, whatever is in it by now
    assert (5 in boxes_in(labels)) == (fold_every_s < 1)
    with open_store(tmp_path / "out"):
        pass
    added = [each for each in boxes_in(labels).values() if each["image_id"] == 3]
    # the last one may have been written and not answered
    assert len(added) - len(answered) in (0, 1)
    assert [each["bbox"][:2] for each in added] == [[n % 70, n // 70] for n in range(len(added))]
    assert len(answered) > 40


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "out")
    process, address = start(tmp_path / "out")
    assert ask(address, "")[0] == 200
    assert decide(address, 0, 0, action="drop", box=1)[0] == 200
    assert decide(address, 0, 1, action="done")[0] == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=MOST_S)
    assert process.returncode == 0, err
    assert "1 of 3 pictures" in out
    assert "Traceback" not in err
    assert 1 not in boxes_in(labels)
    assert [path.suffix for path in sorted(labels.parent.iterdir())] == [".lock", ".json"]
