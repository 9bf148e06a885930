"""RetinaNet's loss against torchvision's `RetinaNetHead.compute_loss`."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchvision import ops
from torchvision.models.detection.retinanet import RetinaNetHead

from flyweight.models.losses.retina import retinanet_loss
from flyweight.models.losses.smooth_l1 import smooth_l1_terms
from flyweight.models.ops.coder import BoxCoder

IMAGES, ANCHORS, CLASSES = 3, 60, 5


def scene(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Anchors `[A, 4]`, boxes `[B, 4, 4]`, labels `[B, 4]`, matches `[B, A]`, class of each."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(ANCHORS, 2, generator=generator) * 50
    anchors = torch.cat((corner, corner + 5 + torch.rand(ANCHORS, 2, generator=generator)), 1)
    boxes = torch.tensor([[0.0, 0, 9, 7], [5, 5, 20, 30], [8, 1, 19, 9], [40, 40, 50, 44]])
    labels = torch.randint(0, CLASSES, (IMAGES, 4), generator=generator)
    matches = torch.randint(-2, 4, (IMAGES, ANCHORS), generator=generator)
    matches[1] = -1  # an image without objects
    classes = torch.where(matches >= 0, labels.gather(1, matches.clamp(min=0)), matches)
    return anchors, boxes.expand(IMAGES, -1, -1), labels, matches, classes


def outputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    deltas = torch.randn(IMAGES, ANCHORS, 4, generator=generator)
    return deltas, torch.randn(IMAGES, ANCHORS, CLASSES, generator=generator)


def test_losses_and_gradients_by_image_are_torchvisions() -> None:
    anchors, boxes, labels, matches, classes = scene(0)
    slot = matches.clamp(min=0)
    target = BoxCoder((1.0, 1.0, 1.0, 1.0)).encode(
        boxes.gather(1, slot.unsqueeze(-1).expand(-1, -1, 4)), anchors
    )
    mine = [each.requires_grad_() for each in outputs()]
    losses = retinanet_loss(
        *mine, target, classes, box_terms=partial(smooth_l1_terms, beta=0.0), normalisation="image"
    )
    (losses["box"] + losses["class"]).backward()
    theirs = [each.requires_grad_() for each in outputs()]
    expected = RetinaNetHead(8, 1, CLASSES).compute_loss(
        [{"boxes": box, "labels": label} for box, label in zip(boxes, labels, strict=True)],
        {"bbox_regression": theirs[0], "cls_logits": theirs[1]},
        [anchors] * IMAGES,
        list(matches),
    )
    torch.testing.assert_close(losses["box"], expected["bbox_regression"])
    torch.testing.assert_close(losses["class"], expected["classification"])
    (expected["bbox_regression"] + expected["classification"]).backward()
    for my, their in zip(mine, theirs, strict=True):
        torch.testing.assert_close(my.grad, their.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("alpha", "gamma", "beta"), [(0.25, 2.0, 1 / 9), (0.5, 1.0, 1.0)])
def test_losses_of_the_batch_are_the_papers(alpha: float, gamma: float, beta: float) -> None:
    classes = scene(1)[-1]
    target = torch.randn(IMAGES, ANCHORS, 4, generator=torch.Generator().manual_seed(3))
    deltas, logits = outputs()
    losses = retinanet_loss(
        deltas,
        logits,
        target,
        classes,
        alpha=alpha,
        gamma=gamma,
        box_terms=partial(smooth_l1_terms, beta=beta),
    )
    positive, counted = classes >= 0, classes >= -1
    one_hot = torch.zeros_like(logits)
    one_hot[positive] = functional.one_hot(classes[positive], CLASSES).float()
    focal = ops.sigmoid_focal_loss(logits[counted], one_hot[counted], alpha, gamma, reduction="sum")
    box = functional.smooth_l1_loss(deltas[positive], target[positive], reduction="sum", beta=beta)
    torch.testing.assert_close(losses["class"], focal / positive.sum())
    torch.testing.assert_close(losses["box"], box / positive.sum())


@pytest.mark.parametrize("normalisation", ["batch", "image"])
def test_without_objects_the_background_still_counts(normalisation: str) -> None:
    deltas, logits = outputs()
    classes = torch.full((IMAGES, ANCHORS), -1)
    losses = retinanet_loss(
        deltas, logits, torch.zeros_like(deltas), classes, normalisation=normalisation
    )
    assert losses["box"].item() == 0
    assert losses["class"].item() > 0
