"""The precision-recall curve of one class at one IoU threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PrecisionRecall:
    """COCO's interpolated curve: `[R]` arrays over R = 101 recall points 0, 0.01, ... 1.

    Attributes:
        recall: the recall points.
        precision: the best precision at that recall or more; 0 where it is never reached.
        score: the score threshold that reaches it; 0 where it is never reached.
    """

    recall: np.ndarray
    precision: np.ndarray
    score: np.ndarray

    def best_score(self) -> float:
        """The score threshold of the highest F1, a starting point for a threshold in use."""
        total = self.precision + self.recall
        f1 = np.divide(
            2 * self.precision * self.recall, total, out=np.zeros_like(total), where=total > 0
        )
        return float(self.score[int(f1.argmax())])
