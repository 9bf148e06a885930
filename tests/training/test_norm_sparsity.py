"""Scales of norms are pulled to zero after a step; everything else trains as without."""

from __future__ import annotations

import torch
from torch import nn

from flyweight.models.detectors import build
from flyweight.models.detectors.detector import Detector
from flyweight.training.batches import Batch
from flyweight.training.devices import make_fabric
from flyweight.training.norm_sparsity import scales_of
from flyweight.training.recipe import Recipe
from flyweight.training.step import TrainingStep

LR = 1e-2


def stepped(sparsity: float, *, freeze: bool = False) -> Detector:
    """A detector after one step of SGD on noise."""
    torch.manual_seed(0)
    detector = build("ssdlite320_mobilenet_v2", classes=("a",), size=96, width=0.25)
    recipe = Recipe(
        epochs=1, batch_size=2, device="cpu", optimizer="sgd", lr=LR, warmup_epochs=0,
        schedule="constant", weight_decay=0, norm_sparsity=sparsity, freeze_norms=freeze,
    )  # fmt: skip
    step = TrainingStep(make_fabric(recipe), detector, recipe, steps_per_epoch=1)
    step.training_mode()
    numbers = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8, generator=numbers)
    batch = Batch(
        images=images,
        boxes_xyxy=torch.tensor([[[8.0, 8.0, 60.0, 70.0]]] * 2),
        labels=torch.zeros((2, 1), dtype=torch.long),
        records=torch.arange(2),
        ignored_xyxy=torch.zeros((2, 0, 4)),
    )
    step(batch, 0)
    return detector


def test_a_step_is_followed_by_the_proximal_step_of_the_l1_norm() -> None:
    plain, sparse = stepped(0.0), stepped(20.0)
    names = {f"{name}.weight" for name, module in plain.named_modules() if is_norm(module)}
    assert len(names) == len(scales_of(plain)) > 0
    after = dict(sparse.named_parameters())
    for name, before in plain.named_parameters():
        expected = before
        if name in names:
            pulled = before.abs() - 20.0 * LR
            expected = torch.where(pulled > 0, pulled * before.sign(), torch.zeros_like(before))
        torch.testing.assert_close(after[name], expected)


def is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d | nn.GroupNorm)


def test_a_strong_pull_ends_at_zero() -> None:
    assert all((scale == 0).all() for scale in scales_of(stepped(1e4)))


def test_norms_that_are_not_trained_keep_their_scales() -> None:
    detector = stepped(20.0, freeze=True)
    assert not scales_of(detector)
    scales = [module.weight for module in detector.modules() if is_norm(module)]
    assert all((scale == 1).all() for scale in scales if isinstance(scale, torch.Tensor))
