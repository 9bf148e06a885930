"""Training that turns channels off, so that pruning by the scales of norms finds them.

Network Slimming (Liu et al. 2017, https://arxiv.org/abs/1708.06519, section 3) adds the L1 norm
of the scales to the loss. Here scales are shrunk after each step instead (the proximal step of that
norm, as in Ye et al. 2018, https://arxiv.org/abs/1802.00124): they reach zero, and the pull does
not depend on an adaptive optimiser's own scaling, as decoupled weight decay does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flyweight.models.layers.narrowing import Norm


def scales_of(detector: nn.Module) -> list[Tensor]:
    """The scales `[channels]` of all norms that are trained."""
    return [
        module.weight
        for module in detector.modules()
        if isinstance(module, Norm) and module.weight is not None and module.weight.requires_grad
    ]


@torch.no_grad()
def shrink_scales(scales: Sequence[Tensor], amount: float) -> None:
    """Bring every scale nearer to zero by `amount`, but not beyond it."""
    for scale in scales:
        scale.copy_(nn.functional.softshrink(scale, amount))
