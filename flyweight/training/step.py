"""One step of the optimiser, from a batch to new weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.training.adversarial import hide_objects
from flyweight.training.batches import Batch
from flyweight.training.drop_block import attach_drop_block
from flyweight.training.ema import MovingAverage
from flyweight.training.freeze import freeze_backbone
from flyweight.training.multi_scale import MultiScale
from flyweight.training.norm_sparsity import scales_of, shrink_scales
from flyweight.training.norms import freeze_norms, join_norms, synchronise_norms
from flyweight.training.optimiser import clip_gradients, make_optimizer
from flyweight.training.recipe import Recipe
from flyweight.training.schedule import make_schedule

if TYPE_CHECKING:
    from flyweight.training.distillation.distil import Distillation

ADVERSARIAL_STREAM = 4
# torch's words
ONE_VALUE = "Expected more than 1 value per channel"


class LossModule(nn.Module):
    """A detector whose forward pass is its loss: what DDP and autocast wrap.

    With a `distillation`, its losses against a teacher stand beside those of the labels.
    """

    def __init__(self, detector: Detector, distillation: Distillation | None = None) -> None:
        super().__init__()
        self.detector = detector
        self.distillation = distillation

    def forward(
        self, images: Tensor, boxes_xyxy: Tensor, labels: Tensor, ignored_xyxy: Tensor
    ) -> dict[str, Tensor]:
        """Losses of a `Batch`.

        Raises:
            InputError: a single image leaves BatchNorm one value a channel.
        """
        targets = Targets(boxes_xyxy, labels, ignored_xyxy)
        try:
            if self.distillation is not None:
                return self.distillation(self.detector, images, targets)
            return self.detector.loss(images, targets)
        except ValueError as error:
            if ONE_VALUE not in str(error):
                raise
            raise InputError(
                "one image at a time is too few for BatchNorm on a map of one cell",
                where="batch_size",
                fix="give a larger batch, fewer mini_batches, a larger size, or norm=group",
            ) from error


class TrainingStep:
    """The detector with all that changes it: optimiser, schedule, moving average.

    The detector goes to Fabric's device, channels-last: depthwise layers run faster so, on CPUs
    and GPUs alike, and the uint8 batches arrive in that layout anyway.

    Args:
        steps_per_epoch: for the schedule.
        distillation: what a teacher adds to the losses; its adapters are trained with the detector.
    """

    def __init__(
        self,
        fabric: Fabric,
        detector: Detector,
        recipe: Recipe,
        *,
        steps_per_epoch: int,
        distillation: Distillation | None = None,
    ) -> None:
        self.fabric = fabric
        self.recipe = recipe
        self.total_steps = recipe.epochs * steps_per_epoch
        if recipe.sync_norms:
            detector.model = synchronise_norms(detector.model, fabric)
        self.detector = detector
        detector.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.frozen = freeze_backbone(detector, recipe.freeze_backbone_stages)
        if recipe.freeze_norms:
            self.frozen += freeze_norms(detector)
        self.joined = join_norms(detector, recipe.mini_batches)
        self.scales = scales_of(detector) if recipe.norm_sparsity else []
        self.distillation = None if distillation is None else distillation.to(fabric.device)
        loss_module = LossModule(detector, self.distillation)
        self.trainable = [each for each in loss_module.parameters() if each.requires_grad]
        self.ema = MovingAverage(detector, decay=recipe.ema_decay)
        # after the average's copy, which drops nothing
        self.drop_blocks = (
            attach_drop_block(detector, recipe.drop_block) if recipe.drop_block else []
        )
        if recipe.compile:
            detector.model.compile()
        self.scale = MultiScale(recipe.multi_scale, seed=recipe.seed)
        optimizer = make_optimizer(loss_module, recipe)
        self.schedule = make_schedule(optimizer, recipe, steps_per_epoch=steps_per_epoch)
        self.loss_module, self.optimizer = fabric.setup(loss_module, optimizer)

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
        batch = self._prepare(batch, step)
        parts = split(batch, self.recipe.mini_batches)
        self.optimizer.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = {}
        for number, part in enumerate(parts, start=1):
            for name, loss in self._backward(part, number, len(parts)).items():
                losses[name] = losses[name] + loss if name in losses else loss
        for norm in self.joined:
            norm.start_batch()
        if self.recipe.clip_norm:
            clip_gradients(self.trainable, self.recipe.clip_norm)
        self.optimizer.step()
        shrink_scales(self.scales, self.lr * self.recipe.norm_sparsity)
        self.schedule.step()
        self.ema.update(self.detector)
        return losses

    def _prepare(self, batch: Batch, step: int) -> Batch:
        """The batch as this step sees it: in its size, its objects hidden from the network."""
        for layer in self.drop_blocks:
            layer.set_progress(step / self.total_steps)
        if self.recipe.multi_scale != (1.0, 1.0):
            batch = self.scale(batch, step)
        rng = np.random.default_rng((self.recipe.seed, ADVERSARIAL_STREAM, step))
        if self.recipe.adversarial and rng.random() < self.recipe.adversarial:
            pixels = self.recipe.adversarial_pixels
            return batch._replace(images=hide_objects(self.detector, batch.images, pixels=pixels))
        return batch

    def _backward(self, part: Batch, number: int, parts: int) -> dict[str, Tensor]:
        """Add the gradient of the `number`-th part of a batch; its share of the batch's losses."""
        # gradients travel between processes once a batch, with the last part
        with self.fabric.no_backward_sync(self.loss_module, enabled=number < parts):
            losses: dict[str, Tensor] = self.loss_module(
                part.images, part.boxes_xyxy, part.labels, part.ignored_xyxy
            )
            self.fabric.backward(torch.stack(list(losses.values())).sum() / parts)
        return {name: loss.detach().float() / parts for name, loss in losses.items()}

    @property
    def _rank(self) -> int:
        return self.fabric.global_rank

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """All that the next step depends on: model, ema, optimizer, schedule, distillation."""
        state = {
            "model": self.detector.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        if self.distillation is not None:
            state["distillation"] = self.distillation.state_dict()
        return state

    def load_state_dict(self, state: dict[str, dict[str, Any]]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            InputError: the teacher is another.
        """
        if self.distillation is not None:
            self.distillation.load_state_dict(state["distillation"])
        self.detector.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])


def split(batch: Batch, parts: int) -> list[Batch]:
    """A batch in so many parts of nearly as many images, or fewer where there are not enough."""
    if parts == 1:
        return [batch]
    pieces = (each.tensor_split(min(parts, len(batch.images))) for each in batch)
    return [Batch(*tensors) for tensors in zip(*pieces, strict=True)]
