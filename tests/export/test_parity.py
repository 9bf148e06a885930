from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flyweight.core.errors import CheckError
from flyweight.core.manifest import Thresholds
from flyweight.export.parity import LIMITS, Parity, compare, compare_nms, sample_inputs


class Scripted:
    """A session that says what it is told to."""

    batch = 1

    def __init__(self, *outputs: Any) -> None:
        self.answer = outputs

    def run(self, _: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(np.asarray(output)[None] for output in self.answer)


BOXES = np.array([[0, 0, 10, 10], [5, 5, 30, 20]], np.float32)
SCORES = np.array([[0.9, 0.0], [0.0, 0.005]], np.float32)
IMAGE = [np.zeros((8, 8, 3), np.uint8)]


def test_the_largest_errors_are_found() -> None:
    boxes, scores = BOXES.copy(), SCORES.copy()
    boxes[1, 2] += 0.25
    scores[0, 1] -= 0.125
    session: Any = Scripted(boxes, scores)
    assert compare([(BOXES, SCORES)], session, IMAGE) == Parity(0.25, 0.125, 1)
    # The second box scores below what anybody looks at.
    assert compare([(BOXES, SCORES)], session, IMAGE, seen_only=True).max_box_error == 0


@pytest.mark.parametrize("which", [0, 1])
def test_nan_is_never_within_the_limits(which: int) -> None:
    outputs = [BOXES.copy(), SCORES.copy()]
    outputs[which][0, 0] = np.nan
    session: Any = Scripted(*outputs)
    with pytest.raises(CheckError):
        compare([(BOXES, SCORES)], session, IMAGE).check("model.onnx")


def test_one_proposal_of_twenty_may_be_another_in_any_order() -> None:
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 300, (20, 4)).astype(np.float32)
    scores = rng.uniform(0.1, 1, (20, 2)).astype(np.float32)
    order = rng.permutation(20)

    def parity(boxes_found: np.ndarray, scores_found: np.ndarray) -> Parity:
        session: Any = Scripted(boxes_found[order], scores_found[order])
        return compare([(boxes, scores)], session, IMAGE, seen_only=True, proposals=True)

    assert parity(boxes, scores) == Parity(0, 0, 1)
    moved = boxes.copy()
    moved[3] += 40
    assert parity(moved, scores) == Parity(0, 0, 1)
    moved[4] += 40
    assert parity(moved, scores).max_box_error > 8
    fainter = scores.copy()
    fainter[3:5] -= 0.1
    assert parity(boxes, fainter).max_score_error == pytest.approx(0.1, abs=1e-6)
    unseen = scores.copy()
    unseen[5:] = 0.001  # fewer than twenty are left to look at, so none may be another
    unseen_session: Any = Scripted(moved, unseen)
    found = compare([(boxes, unseen)], unseen_session, IMAGE, seen_only=True, proposals=True)
    assert found.max_box_error > 8
    broken = boxes.copy()
    broken[7, 0] = np.nan
    assert np.isnan(parity(broken, scores).max_box_error)


def test_limits() -> None:
    Parity(0.05, 0.001, 1).check("model.onnx")
    for parity in (Parity(0.06, 0, 1), Parity(0, 0.0011, 1)):
        with pytest.raises(CheckError, match=r"model\.onnx"):
            parity.check("model.onnx")
        parity.check("model.onnx", LIMITS["fp16"])
    with pytest.raises(CheckError, match="limit 8"):
        Parity(9, 0, 1).check("model.onnx", LIMITS["bf16"])


def test_detections_that_are_missing_or_of_another_class_do_not_pass() -> None:
    dense: Any = Scripted(BOXES, SCORES)
    thresholds = Thresholds(score=0.001)

    def nms(labels: list[int], count: int) -> Any:
        return Scripted(BOXES, [0.9, 0.005], labels, count)

    assert compare_nms(dense, nms([0, 1], 2), IMAGE, thresholds) == Parity(0, 0, 1)
    assert compare_nms(dense, nms([0, 0], 2), IMAGE, thresholds).max_box_error == np.inf
    assert compare_nms(dense, nms([0, 1], 1), IMAGE, thresholds).max_box_error == np.inf


def test_a_file_for_any_number_of_images_is_right_about_each_of_many() -> None:
    """One that answers for its first picture only is right about every picture alone."""
    boxes = np.stack([BOXES, BOXES + 3])
    scores = np.stack([SCORES, SCORES / 2])
    images = [np.full((8, 8, 3), index, np.uint8) for index in range(2)]

    def session(*, forgetful: bool) -> Any:
        def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            order = [0 if forgetful and len(batch) > 1 else each[0, 0, 0] for each in batch]
            return boxes[order], scores[order]

        return SimpleNamespace(batch=None, run=run)

    references = list(zip(boxes, scores, strict=True))
    assert compare(references, session(forgetful=False), images) == Parity(0, 0, 2)
    assert compare(references, session(forgetful=True), images).max_box_error == 3
    thresholds = Thresholds(score=0.001)

    def nms(*, forgetful: bool) -> Any:
        def run(batch: np.ndarray) -> tuple[np.ndarray, ...]:
            found, said = session(forgetful=forgetful).run(batch)
            count = np.full(len(batch), 2)
            return found, said.max(axis=2), np.tile([0, 1], (len(batch), 1)), count

        return SimpleNamespace(batch=None, run=run)

    right = session(forgetful=False)
    assert compare_nms(right, nms(forgetful=False), images, thresholds) == Parity(0, 0, 2)
    assert compare_nms(right, nms(forgetful=True), images, thresholds).max_box_error == 3


def test_samples_are_smooth_and_seeded() -> None:
    first, second = sample_inputs((40, 60), count=2), sample_inputs((40, 60), count=2)
    np.testing.assert_array_equal(first, second)
    assert first[0].shape == (40, 60, 3)
    steps = np.abs(np.diff(first[0].astype(int), axis=1)).mean()
    assert 1 < steps < 25 < first[0].std()
