"""The level of a feature pyramid that a box belongs to, by its size."""

from __future__ import annotations

import torch
from torch import Tensor

from flyweight.models.ops.boxes import box_area

# A box of exactly the canonical size lies on the edge between two levels: rounding must not
# decide. The same as in torchvision and detectron2, whose weights were trained with it.
EDGE = 1e-6


def fpn_level(
    boxes_xyxy: Tensor, *, k0: int = 4, canonical: float = 224.0, k_min: int, k_max: int
) -> Tensor:
    """`k = ⌊k₀ + log₂(√(wh) / 224)⌋` (FPN, Lin et al. 2017, equation 1), cut at the ends.

    Args:
        boxes_xyxy: `[..., 4]` pixels of the network's input.
        k0: the level of a box of the canonical size.
        canonical: side of a square box, pixels; ImageNet's 224.
        k_min: the finest level there is; level k has stride 2ᵏ.
        k_max: the coarsest.

    Returns:
        int64 `[...]`, from `k_min` to `k_max`; `k_min` for boxes without area.
    """
    side = box_area(boxes_xyxy.float()).clamp(min=0).sqrt()
    level = torch.floor(k0 + torch.log2(side / canonical) + EDGE)
    return level.clamp(k_min, k_max).to(torch.int64)
