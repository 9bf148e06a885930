"""Which detection of one frame is which of the last: ByteTrack, by the package edgefirst-tracker.

Zhang et al. 2022, https://arxiv.org/abs/2110.06864: boxes of high score are matched with tracks
first, then those of low score, so that an object that is half hidden keeps its number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flyweight.core.detections import Detections
from flyweight.core.errors import InputError

# A track begins with a detection from this score on.
BEGIN_SCORE = 0.5
# Overlap of a box with where its track is expected.
MATCH_IOU = 0.25
# A track that is not seen for so long has ended, seconds.
LIFETIME = 1.0
UNTRACKED = -1


class Tracker:
    """Numbers for the objects of one video; a new one for each video.

    Args:
        begin_score: a track begins with a detection from this score on.
        lifetime: seconds until an object that is not seen any more has left.

    Raises:
        InputError: the tracking library is not installed.
    """

    def __init__(self, *, begin_score: float = BEGIN_SCORE, lifetime: float = LIFETIME) -> None:
        try:
            from edgefirst.tracker import ByteTrack
        except ImportError as error:
            raise InputError(
                "tracking needs a library that is not installed",
                fix="pip install 'flyweight[track]'",
            ) from error
        self._new_tracks = lambda: ByteTrack(
            high_conf=begin_score, iou=MATCH_IOU, lifespan_ns=int(lifetime * 1e9)
        )
        # One a class: ByteTrack itself would hand the number of a cat on to a dog.
        self._tracks: dict[int, ByteTrack] = {}
        self._numbers: dict[str, int] = {}

    def update(
        self, detections: Detections, *, seconds: float, size_hw: tuple[int, int]
    ) -> npt.NDArray[np.int64]:
        """Numbers `[N]` from 1 of the objects that were detected, `UNTRACKED` where a detection
        begins no track.

        Args:
            detections: of the frame, boxes xyxy in its pixels, low scores too.
            seconds: of the frame, later than the last one's.
            size_hw: of the frame.
        """
        numbers = np.full(len(detections), UNTRACKED, dtype=np.int64)
        scale = np.array([size_hw[1], size_hw[0]] * 2, dtype=np.float32)
        boxes = detections.boxes_xyxy.astype(np.float32) / scale
        for label in {*self._tracks, *map(int, detections.labels)}:
            if label not in self._tracks:
                self._tracks[label] = self._new_tracks()
            rows = np.flatnonzero(detections.labels == label)
            tracks = self._tracks[label].update(
                boxes[rows],
                detections.scores[rows].astype(np.float32),
                detections.labels[rows].astype(np.uintp),
                round(seconds * 1e9),
            )
            for row, track in zip(rows, tracks, strict=True):
                if track is not None:
                    numbers[row] = self._numbers.setdefault(track.uuid, len(self._numbers) + 1)
        return numbers
