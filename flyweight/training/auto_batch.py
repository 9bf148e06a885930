"""How many images a batch can have on a device, and the learning rate that goes with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets
from flyweight.training.devices import make_fabric
from flyweight.training.recipe import Recipe

# More than 64 images a step brings no light detector more speed, and an epoch of fewer than eight
# steps learns little.
MOST_IMAGES = 64
# BatchNorm after a global pooling has nothing to count over in one image.
FEWEST_IMAGES = 2
STEPS_PER_EPOCH = 8
# What recipes' learning rates are meant for.
USUAL_BATCH = 16
# Weights, gradients, Adam's two moments, the moving average.
COPIES_OF_WEIGHTS = 5
# A backward pass holds gradients of activations beside the activations, and kernels want scratch.
OVERHEAD = 1.6
SHARE_OF_MEMORY = 0.8


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that training needs: so much in any case, and so much for each image of a batch."""

    fixed: float
    per_image: float

    def images(self, memory: float) -> int:
        """The most images whose batch fits into `memory` bytes; 0 if not even one."""
        return max(0, int((memory - self.fixed) / self.per_image))


def memory_need(detector: Detector) -> MemoryNeed:
    """Counted, not tried: what a forward pass saves for the backward pass, for two and four images.

    Nothing runs out of memory on the way, and a GPU and a CPU give the same answer.
    """
    # BatchNorm after a global pooling needs two values
    two, four = (saved_bytes(detector, images) for images in (2, 4))
    weights = sum(each.numel() * each.element_size() for each in detector.parameters())
    return MemoryNeed(
        fixed=COPIES_OF_WEIGHTS * weights + OVERHEAD * max(0, 2 * two - four),
        per_image=OVERHEAD * (four - two) / 2,
    )


def saved_bytes(detector: Detector, images: int) -> int:
    """Bytes that the loss of a batch of so many images keeps for its gradient, weights aside."""
    height, width = detector.preprocessing.size_hw
    device = detector.device
    batch = torch.zeros(images, height, width, 3, dtype=torch.uint8, device=device)
    box = torch.tensor([[[0.0, 0.0, width / 2, height / 2]]], device=device)
    targets = Targets(
        boxes_xyxy=box.repeat(images, 1, 1),
        labels=torch.zeros(images, 1, dtype=torch.int64, device=device),
    )
    # the views of one storage are kept once
    weights = {each.untyped_storage().data_ptr() for each in detector.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    modes = {module: module.training for module in detector.modules()}
    buffers = {name: value.clone() for name, value in detector.named_buffers()}
    detector.train()
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            losses = detector.loss(batch, targets)
        del losses
    finally:
        for module, training in modes.items():
            module.training = training
        for name, value in detector.named_buffers():
            value.copy_(buffers[name])
    return sum(kept.values())


def free_memory(device: torch.device) -> float:
    """Bytes that can still be had on a device; infinite where nobody says it."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return math.inf
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return 1024.0 * int(lines["MemAvailable"].split()[0])


def with_largest_batch(
    recipe: Recipe, detector: Detector, *, train_images: int, memory: float | None = None
) -> Recipe:
    """The recipe with the largest power of two as batch that fits, and its learning rate.

    With another batch than 16 the rate changes as the noise of the gradient does: linearly for
    SGD (Goyal et al. 2017, section 2.1), by the square root for AdamW (Malladi et al. 2022).

    Args:
        train_images: an epoch keeps eight steps at least, if it has so many images.
        memory: bytes; by default four fifths of what is free on the recipe's device.
    """
    if memory is None:
        memory = SHARE_OF_MEMORY * free_memory(make_fabric(recipe).device)
    need = memory_need(detector)
    fits = MOST_IMAGES if math.isinf(memory) else need.images(memory)
    most = max(FEWEST_IMAGES, min(MOST_IMAGES, fits, train_images // STEPS_PER_EPOCH))
    batch_size = 2 ** (most.bit_length() - 1)
    factor = batch_size / USUAL_BATCH
    changes: dict[str, Any] = {
        "batch_size": batch_size,
        "lr": recipe.lr * (factor if recipe.optimizer == "sgd" else math.sqrt(factor)),
        "mini_batches": min(recipe.mini_batches, batch_size),
    }
    return replace(recipe, **changes)
