"""One step of the optimiser, from a batch of labelled images to new weights."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from flyweight.training.batches import Batch
from flyweight.training.classification.network import ImageClassifier
from flyweight.training.classification.recipe import ClassificationRecipe
from flyweight.training.ema import MovingAverage
from flyweight.training.optimiser import clip_gradients, make_optimizer
from flyweight.training.schedule import make_schedule


class SmoothedCrossEntropy(nn.Module):
    """A classifier whose forward pass is its loss: what autocast wraps.

    Cross entropy against targets `(1 - ε) y + ε / K` (Szegedy et al. 2016, arXiv 1512.00567,
    section 7).
    """

    def __init__(self, network: ImageClassifier, *, label_smoothing: float) -> None:
        super().__init__()
        self.network = network
        self.label_smoothing = label_smoothing

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of uint8 images `[B, H, W, 3]` with `labels [B]`, a scalar."""
        logits = self.network(images).float()
        return cross_entropy(logits, labels, label_smoothing=self.label_smoothing)


class ClassificationStep:
    """The network with all that changes it: optimiser, schedule, moving average.

    The network goes to Fabric's device, channels-last, as detectors do.

    Args:
        steps_per_epoch: for the schedule.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: ImageClassifier,
        recipe: ClassificationRecipe,
        *,
        steps_per_epoch: int,
    ) -> None:
        self.fabric = fabric
        self.seed = recipe.seed
        self.network = network
        network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimisation = recipe.optimisation
        self.clip_norm = optimisation.clip_norm
        self.ema = MovingAverage(network, decay=recipe.ema_decay)
        optimizer = make_optimizer(network, optimisation)
        self.schedule = make_schedule(optimizer, optimisation, steps_per_epoch=steps_per_epoch)
        loss = SmoothedCrossEntropy(network, label_smoothing=recipe.label_smoothing)
        self.loss, self.optimizer = fabric.setup(loss, optimizer)

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return float(self.schedule.get_last_lr()[-1])

    def training_mode(self) -> None:
        """Training mode for all layers."""
        self.loss.train()

    def __call__(self, batch: Batch, step: int) -> Tensor:
        """Train on `batch`, the `step`-th of the run; returns its loss, still on the device.

        Of each image the first label counts: a region is one box.
        """
        # dropout follows from the step, so that a resumed run draws the same
        torch.manual_seed((self.seed << 32) + step)
        loss: Tensor = self.loss(batch.images, batch.labels[:, 0])
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        if self.clip_norm:
            clip_gradients(self.network.parameters(), self.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.ema.update(self.network)
        return loss.detach().float()

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """All that the next step depends on: model, ema, optimizer, schedule."""
        return {
            "model": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, dict[str, Any]]) -> None:
        """Go on where `state_dict` was taken."""
        self.network.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
