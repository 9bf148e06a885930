"""Does an exported file say what the detector says? Checked, or the file is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from flyweight.core.detections import Detections
from flyweight.core.errors import CheckError
from flyweight.core.manifest import Thresholds
from flyweight.core.nms import select_detections
from flyweight.models.detectors import Detector
from flyweight.runtime.predictor import stack_inputs
from flyweight.runtime.session import Session

# N images, A anchors, C classes

Inputs = Sequence[npt.NDArray[np.uint8]]
Dense = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

MAX_BOX_ERROR = 0.05
MAX_SCORE_ERROR = 1e-3
# Boxes in pixels and scores, by precision. 11 bits of a weight instead of 24 move the worst score
# of a trained SSDlite by 0.02, 8 bits (bf16) by 0.1; a wrong layer moves most of them by more. What
# is in int8 has no limit but that of its AP: with it single scores move as far as a wrong layer's.
LIMITS = {"fp32": (MAX_BOX_ERROR, MAX_SCORE_ERROR), "fp16": (2.0, 0.05), "bf16": (8.0, 0.25)}
# Below this score nobody looks at a box: an int8 file's figures leave those out.
SEEN_SCORE = 0.01
# Of the rows of a two-stage detector, which are proposals: this share may be other proposals. NMS
# among them is a step: the last bit of a weight decides which of two that overlap remains.
OTHER_PROPOSALS = 0.05


@dataclass(frozen=True)
class Parity:
    """The largest differences between an exported file and the detector it comes from.

    Attributes:
        max_box_error: input pixels, over all coordinates of the compared boxes.
        max_score_error: over all anchors and classes.
        images: how many were compared.
    """

    max_box_error: float
    max_score_error: float
    images: int

    def check(self, where: str, limits: tuple[float, float] = LIMITS["fp32"]) -> None:
        """Raise `CheckError` where a limit, pixels or score, does not hold (NaN never holds)."""
        box_limit, score_limit = limits
        if self.max_box_error <= box_limit and self.max_score_error <= score_limit:
            return
        raise CheckError(
            f"the exported file does not say what the detector says: boxes differ by up to "
            f"{self.max_box_error:.3g} px (limit {box_limit:g}), scores by up to "
            f"{self.max_score_error:.3g} (limit {score_limit:g}); no file was kept ({where})"
        )


def reference_outputs(detector: Detector, inputs: Inputs) -> list[Dense]:
    """The detector's own `boxes [A, 4]` and `scores [A, C]` of each input `[h, w, 3]`."""
    device = next(detector.parameters()).device
    training = detector.training
    detector.eval()
    try:
        with torch.inference_mode():
            outputs = [detector(torch.from_numpy(image[None]).to(device)) for image in inputs]
    finally:
        detector.train(training)
    return [(_to_numpy(boxes), _to_numpy(scores)) for boxes, scores in outputs]


def _to_numpy(batch: torch.Tensor) -> npt.NDArray[np.float32]:
    """The first of a batch."""
    return batch[0].float().cpu().numpy()


def compare(
    references: Sequence[Dense],
    session: Session,
    inputs: Inputs,
    *,
    seen_only: bool = False,
    proposals: bool = False,
) -> Parity:
    """Compare a session's dense outputs with the detector's on the same inputs.

    Args:
        references: of `reference_outputs`.
        session: of a file with dense outputs.
        inputs: uint8 `[h, w, 3]` each.
        seen_only: only boxes that either side scores above `SEEN_SCORE`.
        proposals: rows are proposals, in any order: each seen one is compared with the nearest of
            the other side, and of each image the worst `OTHER_PROPOSALS` are left out.
    """
    worst_box = worst_score = 0.0
    for index, (found_boxes, found_scores) in _alone_and_together(session, inputs):
        wanted, found = references[index], (found_boxes, found_scores)
        errors = _proposal_errors(wanted, found) if proposals else _errors(wanted, found, seen_only)
        # np.max and not max(): a NaN must come through.
        worst_box = float(np.max([worst_box, errors[0].max(initial=0.0)]))
        worst_score = float(np.max([worst_score, errors[1].max(initial=0.0)]))
    return Parity(worst_box, worst_score, len(inputs))


def _errors(wanted: Dense, found: Dense, seen_only: bool) -> Dense:
    """Box errors `[R]` of the rows that count, and score errors `[A, C]`, row by row."""
    box_errors = np.abs(found[0] - wanted[0]).max(axis=1)
    if seen_only:
        seen = np.maximum(found[1], wanted[1]).max(axis=1) > SEEN_SCORE
        box_errors = box_errors[seen]
    return box_errors, np.abs(found[1] - wanted[1])


def _proposal_errors(wanted: Dense, found: Dense) -> Dense:
    """Of each seen row the box and score error to the nearest of the other side, but the worst.

    Both float32 `[R]`; a NaN is its own error and never left out.
    """
    box_errors, score_errors = [], []
    for (boxes, scores), (others, their_scores) in ((wanted, found), (found, wanted)):
        seen = ~(scores.max(axis=1) <= SEEN_SCORE)  # a NaN is seen
        distances = np.abs(boxes[seen, None] - others[None]).max(axis=2)
        # Of the rows of one object, which lie close together, that of the same score.
        apart = np.abs(scores[seen, None] - their_scores[None]).max(axis=2)
        differences = distances / LIMITS["fp16"][0] + apart / LIMITS["fp16"][1]
        rows, nearest = np.arange(len(distances)), differences.argmin(axis=1)
        # The worst first and NaN, which is not left out, last.
        order = np.argsort(-differences[rows, nearest], kind="stable")
        order = order[int(OTHER_PROPOSALS * len(order)) :]
        box_errors.append(distances[rows, nearest][order])
        score_errors.append(apart[rows, nearest][order])
    return np.concatenate(box_errors), np.concatenate(score_errors)


def _alone_and_together(
    session: Session, inputs: Inputs
) -> Iterator[tuple[int, tuple[npt.NDArray[Any], ...]]]:
    """Index and outputs of each input: alone, and again among all where any number may come."""
    for index, image in enumerate(inputs):
        outputs = session.run(stack_inputs([image], session.batch or 1))
        yield index, tuple(each[0] for each in outputs)
    if session.batch is None and len(inputs) > 1:
        outputs = session.run(stack_inputs(inputs, None))
        for index in range(len(inputs)):
            yield index, tuple(each[index] for each in outputs)


def compare_nms(dense: Session, session: Session, inputs: Inputs, thresholds: Thresholds) -> Parity:
    """Compare a file that ends with NMS with numpy's NMS over the dense file's outputs.

    Both run in the same runtime, so that they start from the same numbers.
    """
    worst_box = worst_score = 0.0
    both = zip(
        _alone_and_together(dense, inputs), _alone_and_together(session, inputs), strict=True
    )
    for (_, (boxes, scores)), (_, (kept_boxes, kept_scores, labels, count)) in both:
        expected = select_detections(boxes, scores, **thresholds.selection())
        kept = slice(int(count))
        found = Detections(kept_boxes[kept], kept_scores[kept], labels[kept])
        box_error, score_error = _detection_errors(expected, found)
        worst_box, worst_score = max(worst_box, box_error), max(worst_score, score_error)
    return Parity(worst_box, worst_score, len(inputs))


def _detection_errors(expected: Detections, found: Detections) -> tuple[float, float]:
    """Largest box and score difference; infinite where a detection has no counterpart."""
    if len(expected) != len(found):
        return float("inf"), float("inf")
    if len(expected) == 0:
        return 0.0, 0.0
    score_error = float(np.abs(expected.scores - found.scores).max())
    # Equal scores may come in either order: the counterpart is the nearest box of the class.
    distances = np.abs(expected.boxes_xyxy[:, None] - found.boxes_xyxy[None]).max(axis=2)
    distances[expected.labels[:, None] != found.labels[None]] = np.inf
    return float(distances.min(axis=1).max()), score_error


def sample_inputs(
    size_hw: tuple[int, int], *, count: int = 4, seed: int = 0
) -> list[npt.NDArray[np.uint8]]:
    """Smooth random pictures, uint8 `[h, w, 3]`: white noise would excite no feature at all."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    inputs = []
    for _ in range(count):
        canvas = np.zeros((height, width, 3))
        for cells in (3, 9, 27):
            coarse = rng.normal(0, 1 / cells**0.5, (cells, cells, 3))
            smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
            canvas += np.asarray(smooth, dtype=np.float64)
        canvas = 128 + canvas * (64 / canvas.std())
        inputs.append(np.clip(canvas, 0, 255).astype(np.uint8))
    return inputs
