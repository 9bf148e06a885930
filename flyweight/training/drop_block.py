"""DropBlock on the coarse levels of a backbone, while it is trained."""

from __future__ import annotations

from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.models.layers import DropBlock
from flyweight.training.freeze import find_backbone

# Ghiasi et al. 2018, section 4: the last two groups of a ResNet.
LEVELS = 2


def attach_drop_block(detector: nn.Module, probability: float) -> list[DropBlock]:
    """Drop blocks of the backbone's two coarsest levels, as the neck reads them.

    DropBlock, Ghiasi et al. 2018, https://arxiv.org/abs/1810.12890. The layers hang on the
    backbone's output and are not part of the detector: a checkpoint knows nothing of them. They
    drop in training only, with a probability that `set_progress` raises (section 3, "Scheduled
    DropBlock").

    Returns:
        The layers, one a level.

    Raises:
        InputError: the detector has no backbone.
    """
    backbone = find_backbone(detector)
    if backbone is None:
        raise InputError("drop_block needs a detector with a backbone", where="recipe")
    layers = [DropBlock(probability) for _ in range(LEVELS)]

    def drop(module: nn.Module, _: object, levels: list[Tensor]) -> list[Tensor]:
        if not module.training:
            return levels
        kept = len(levels) - min(len(levels), LEVELS)
        return [
            *levels[:kept],
            *(layer(level) for layer, level in zip(layers, levels[kept:], strict=False)),
        ]

    backbone.register_forward_hook(drop)
    return layers
