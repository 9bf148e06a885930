"""One step of the optimiser, from a batch to new weights."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.training.batches import Batch
from flyweight.training.ema import MovingAverage
from flyweight.training.freeze import freeze_backbone
from flyweight.training.optimiser import clip_gradients, make_optimizer
from flyweight.training.recipe import Recipe
from flyweight.training.schedule import make_schedule


class LossModule(nn.Module):
    """A detector whose forward pass is its loss: what DDP and autocast wrap."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, boxes_xyxy: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses of a `Batch`."""
        return self.detector.loss(images, Targets(boxes_xyxy=boxes_xyxy, labels=labels))


class TrainingStep:
    """The detector with all that changes it: optimiser, schedule, moving average.

    The detector goes to Fabric's device, channels-last: depthwise layers run faster so, on CPUs
    and GPUs alike, and the uint8 batches arrive in that layout anyway.

    Args:
        steps_per_epoch: for the schedule.
    """

    def __init__(
        self, fabric: Fabric, detector: Detector, recipe: Recipe, *, steps_per_epoch: int
    ) -> None:
        self.fabric = fabric
        self.recipe = recipe
        self.detector = detector
        detector.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.frozen = freeze_backbone(detector, recipe.freeze_backbone_stages)
        self.trainable = [each for each in detector.parameters() if each.requires_grad]
        self.ema = MovingAverage(detector, decay=recipe.ema_decay)
        optimizer = make_optimizer(detector, recipe)
        self.schedule = make_schedule(optimizer, recipe, steps_per_epoch=steps_per_epoch)
        self.loss_module, self.optimizer = fabric.setup(LossModule(detector), optimizer)

    @property
    def lr(self) -> float:
        """Learning rate of the next step, outside the backbone."""
        return float(self.schedule.get_last_lr()[-1])

    def training_mode(self) -> None:
        """Training mode for all layers that are trained."""
        self.loss_module.train()
        for layer in self.frozen:
            layer.eval()

    def __call__(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Train on `batch`, the `step`-th of the run; returns its losses, still on the device."""
        # dropout and the like follow from the step, so that a resumed run draws the same
        torch.manual_seed((self.recipe.seed << 32) + step * self.fabric.world_size + self._rank)
        losses: dict[str, Tensor] = self.loss_module(batch.images, batch.boxes_xyxy, batch.labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(torch.stack(list(losses.values())).sum())
        if self.recipe.clip_norm:
            clip_gradients(self.trainable, self.recipe.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.ema.update(self.detector)
        return {name: loss.detach().float() for name, loss in losses.items()}

    @property
    def _rank(self) -> int:
        return self.fabric.global_rank

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """All that the next step depends on: model, ema, optimizer, schedule."""
        return {
            "model": self.detector.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, dict[str, Any]]) -> None:
        """Go on where `state_dict` was taken."""
        self.detector.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
