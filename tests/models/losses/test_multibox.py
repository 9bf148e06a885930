"""The MultiBox loss against a restatement in numpy, float64, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flyweight.models.losses.multibox import hard_negatives, multibox_loss


def restated(
    deltas: np.ndarray, logits: np.ndarray, targets: np.ndarray, classes: np.ndarray, ratio: int
) -> tuple[float, float]:
    """Equations 1 to 3 of the paper; deltas `[B, A, 4]`, logits `[B, A, C + 1]`."""
    box, confidence, positives = 0.0, 0.0, 0
    for x, z, t, c in zip(deltas, logits, targets, classes, strict=True):
        loss = np.log(np.exp(z).sum(1)) - z[np.arange(len(c)), c]
        positive = c > 0
        positives += int(positive.sum())
        error = np.abs(x - t)[positive]
        box += np.where(error < 1, 0.5 * error**2, error - 0.5).sum()
        negatives = np.sort(loss[~positive])[::-1][: ratio * int(positive.sum())]
        confidence += loss[positive].sum() + negatives.sum()
    return box / max(1, positives), confidence / max(1, positives)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.6])
@pytest.mark.parametrize("ratio", [3, 1])
def test_losses_are_the_papers(share: float, ratio: int) -> None:
    rng = np.random.default_rng(int(share * 100) + ratio)
    deltas, targets = rng.normal(size=(2, 3, 150, 4)) * 1.5
    logits = rng.normal(size=(3, 150, 6)) * 2
    classes = rng.integers(1, 6, (3, 150)) * (rng.random((3, 150)) < share)
    classes[1] = 0  # an image without objects
    expected = restated(deltas, logits, targets, classes, ratio)
    losses = multibox_loss(
        torch.from_numpy(deltas).float(),
        torch.from_numpy(logits).float(),
        torch.from_numpy(targets).float(),
        torch.from_numpy(classes),
        negatives_per_positive=ratio,
    )
    assert losses["box"].item() == pytest.approx(expected[0], rel=1e-5)
    assert losses["class"].item() == pytest.approx(expected[1], rel=1e-5)
    assert (losses["class"].item() > 0) == (share > 0)


def test_hard_negatives_are_the_worst_background_anchors() -> None:
    loss = torch.tensor([[5.0, 1.0, 4.0, 3.0, 2.0, 9.0, 0.5, 0.1]])
    positive = torch.tensor([[False, False, False, False, False, True, False, False]])
    chosen = hard_negatives(loss, positive, 3)
    assert chosen[0].nonzero().flatten().tolist() == [0, 2, 3]


def test_positives_never_count_as_negatives() -> None:
    positive = torch.tensor([[True, True, False]])
    assert hard_negatives(torch.rand(1, 3), positive, 3).tolist() == [[False, False, True]]


def test_only_chosen_anchors_have_a_gradient() -> None:
    torch.manual_seed(0)
    deltas = torch.randn(1, 20, 4, requires_grad=True)
    logits = torch.randn(1, 20, 3, requires_grad=True)
    classes = torch.zeros(1, 20, dtype=torch.int64)
    classes[0, 4] = 2
    losses = multibox_loss(deltas, logits, torch.zeros(1, 20, 4), classes)
    (losses["box"] + losses["class"]).backward()
    assert deltas.grad is not None
    assert logits.grad is not None
    assert deltas.grad.abs().sum(-1).nonzero()[:, 1].tolist() == [4]
    assert len(logits.grad.abs().sum(-1).nonzero()) == 1 + 3


def test_half_precision_outputs_lose_nothing_in_the_sum() -> None:
    torch.manual_seed(0)
    logits, deltas = torch.randn(2, 500, 5).bfloat16(), torch.randn(2, 500, 4).bfloat16()
    classes = torch.randint(0, 5, (2, 500))
    target = torch.zeros(2, 500, 4)
    half = multibox_loss(deltas, logits, target, classes)
    full = multibox_loss(deltas.float(), logits.float(), target, classes)
    for name, loss in half.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, full[name])


def mined(kind: str, *, smoothing: float = 0.0) -> tuple[float, float]:
    """The class loss of one random batch, and its restatement in float64."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(2, 60, 4)) * 2
    classes = rng.integers(1, 4, (2, 60)) * (rng.random((2, 60)) < 0.1)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    own = np.take_along_axis(log_p, classes[..., None], -1)[..., 0]
    loss = -(1 - smoothing) * own - smoothing * log_p.mean(-1)
    positive = classes > 0
    if kind == "hardest":
        counts = 4 * positive.sum(1)
        each = [np.sort(row)[::-1][:count].sum() for row, count in zip(loss, counts, strict=True)]
    elif kind == "focal":
        each = (np.where(positive, 0.25, 0.75) * (1 - np.exp(own)) ** 2 * loss).sum(1)
    else:
        each = [
            row[chosen].sum() + np.sort(row[~chosen])[::-1][: 3 * chosen.sum()].sum()
            for row, chosen in zip(loss, positive, strict=True)
        ]
    losses = multibox_loss(
        torch.zeros(2, 60, 4),
        torch.from_numpy(logits),
        torch.zeros(2, 60, 4),
        torch.from_numpy(classes),
        mining=kind,  # type: ignore[arg-type]
        label_smoothing=smoothing,
    )
    return losses["class"].item(), float(np.sum(each)) / positive.sum()


@pytest.mark.parametrize("kind", ["negatives", "hardest", "focal"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_whose_class_loss_counts(kind: str, smoothing: float) -> None:
    loss, expected = mined(kind, smoothing=smoothing)
    assert loss == pytest.approx(expected, rel=1e-5)
