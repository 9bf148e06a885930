"""Multi-scale training: the input's size changes as training goes on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional

from flyweight.training.batches import Batch

SIZE_STREAM = 3


@dataclass(frozen=True)
class MultiScale:
    """Every few steps a new input size, as in YOLO9000 (Redmon & Farhadi 2017, section 2).

    A batch is resized as a whole, on the device: its boxes are multiplied, nothing is read anew.
    The size follows from the seed and the step alone, so that a resumed run, and every process of
    one, draws the same.

    Attributes:
        scale_range: smallest and largest factor of the batch's own size.
        multiple: sides are whole multiples of it, pixels; the network's coarsest stride.
        steps: between two changes; 10 in the paper.
        seed: of the draws.
    """

    scale_range: tuple[float, float]
    multiple: int = 32
    steps: int = 10
    seed: int = 0

    def size_hw(self, size_hw: tuple[int, int], step: int) -> tuple[int, int]:
        """Height and width in `step` for batches of `size_hw`."""
        low, high = self.scale_range
        rng = np.random.default_rng((self.seed, SIZE_STREAM, step // self.steps))
        factor = low + (high - low) * rng.random()
        height, width = (max(1, round(s * factor / self.multiple)) * self.multiple for s in size_hw)
        return height, width

    def __call__(self, batch: Batch, step: int) -> Batch:
        """The batch in the size of `step`: images float `[B, H, W, 3]`, 0 to 255."""
        own_hw = (batch.images.shape[1], batch.images.shape[2])
        size_hw = self.size_hw(own_hw, step)
        if size_hw == own_hw:
            return batch
        factors = [size_hw[1] / own_hw[1], size_hw[0] / own_hw[0]] * 2
        return batch._replace(
            images=resize(batch.images, size_hw),
            boxes_xyxy=batch.boxes_xyxy * batch.boxes_xyxy.new_tensor(factors),
            ignored_xyxy=batch.ignored_xyxy * batch.ignored_xyxy.new_tensor(factors),
        )


def resize(images: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Images `[B, H, W, 3]` bilinearly to `size_hw`, float; the memory stays channels-last."""
    resized = functional.interpolate(
        images.permute(0, 3, 1, 2).float(), size_hw, mode="bilinear", antialias=True
    )
    return resized.permute(0, 2, 3, 1)
