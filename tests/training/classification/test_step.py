"""The loss against its formula in double precision."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from flyweight.training.classification.step import SmoothedCrossEntropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_smoothed_cross_entropy(smoothing: float) -> None:
    """Szegedy et al. 2016, equation 8: targets (1 - ε) y + ε / K."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (7, 5)), rng.integers(0, 5, 7)
    targets = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -(targets * log_p).sum(axis=1).mean()
    loss = SmoothedCrossEntropy(cast(Any, nn.Identity()), label_smoothing=smoothing)
    found = loss(torch.from_numpy(logits), torch.from_numpy(labels))
    assert float(found) == pytest.approx(expected, rel=1e-6)
