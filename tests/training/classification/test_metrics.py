from __future__ import annotations

import numpy as np
import pytest

from flyweight.training.classification.metrics import classification_result, confusion_matrix


def test_figures_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 300, p=(0.7, 0.2, 0.08, 0.02))
    found = np.where(rng.random(300) < 0.6, labels, rng.integers(0, 4, 300))
    confusion = confusion_matrix(labels, found, 4)
    assert np.array_equal(confusion, metrics.confusion_matrix(labels, found))
    result = classification_result(confusion)
    assert result.top1 == pytest.approx(metrics.accuracy_score(labels, found))
    expected = metrics.balanced_accuracy_score(labels, found)
    assert result.balanced_accuracy == pytest.approx(expected)


def test_a_class_without_images_does_not_count() -> None:
    """Three of four right of the first class, all of the second; nothing shows the third."""
    labels, found = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 2, 1])
    result = classification_result(confusion_matrix(labels, found, 3))
    assert result.top1 == pytest.approx(4 / 5)
    assert result.balanced_accuracy == pytest.approx((3 / 4 + 1) / 2)
