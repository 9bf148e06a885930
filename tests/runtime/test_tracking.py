"""Objects keep their numbers: hand-made paths, whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from flyweight.core.detections import Detections
from flyweight.runtime.tracking import UNTRACKED, Tracker

pytest.importorskip("edgefirst.tracker", reason="tracking needs the extra `track`")

SIZE_HW = (240, 400)


def run(frames: list[list[tuple[float, float, float, int]]]) -> list[list[int]]:
    """Numbers of detections `(x, y, score, label)` of 40 × 60 pixels, 25 frames a second, sorted as
    they were given."""
    tracker = Tracker()
    numbers = []
    for index, rows in enumerate(frames):
        boxes = np.array([[x, y, x + 40, y + 60] for x, y, _, _ in rows]).reshape(-1, 4)
        scores = np.array([row[2] for row in rows])
        found = Detections(boxes, scores, np.array([row[3] for row in rows]))
        given = tracker.update(found, seconds=index / 25, size_hw=SIZE_HW)
        order = np.argsort(np.argsort(-scores, kind="stable"), kind="stable")
        numbers.append(given[order].tolist())
    return numbers


def test_two_that_pass_each_other_on_two_heights() -> None:
    frames = [[(10 + 8 * i, 20, 0.9, 0), (300 - 8 * i, 120, 0.8, 0)] for i in range(30)]
    assert run(frames) == [[1, 2]] * 30


def test_half_hidden_keeps_its_number() -> None:
    """ByteTrack's point: low scores go on with a track, and begin none."""
    frames = [[(50 + 2 * i, 50, 0.9 if i < 5 else 0.2, 0)] for i in range(12)]
    assert run(frames) == [[1]] * 12
    assert run([[(50, 50, 0.2, 0)]] * 5) == [[UNTRACKED]] * 5


def test_unseen_for_a_while_and_for_long() -> None:
    seen: list[tuple[float, float, float, int]] = [(50, 50, 0.9, 0)]
    assert run([seen] * 4 + [[]] * 5 + [seen]) == [[1]] * 4 + [[]] * 5 + [[1]]
    assert run([seen] * 4 + [[]] * 40 + [seen]) == [[1]] * 4 + [[]] * 40 + [[2]]


def test_another_class_is_another_object() -> None:
    frames = [[(50, 50, 0.9, 0)]] * 4 + [[(50, 50, 0.9, 1)]] * 4
    assert run([list(frame) for frame in frames]) == [[1]] * 4 + [[2]] * 4
