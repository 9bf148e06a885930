"""Parts of a backbone that keep their pretrained weights."""

from __future__ import annotations

from torch import nn

from flyweight.core.errors import InputError


def find_backbone(detector: nn.Module) -> nn.Module | None:
    """The first module called `backbone`."""
    for name, module in detector.named_modules():
        if name.rpartition(".")[2] == "backbone":
            return module
    return None


def freeze_backbone(detector: nn.Module, stages: int) -> list[nn.Module]:
    """Stop training the layers of the first `stages` stages, those of stride 2**stages and below.

    Returns:
        The frozen layers. They must stay in evaluation mode, or the statistics of their norms
        would go on changing.

    Raises:
        InputError: the backbone does not have that many stages.
    """
    if not stages:
        return []
    layers = _layers_with_strides(detector)
    deepest = max((stride for _, stride in layers), default=1).bit_length() - 1
    if stages > deepest:
        raise InputError(
            f"freeze_backbone_stages is {stages}, the backbone has {deepest} stages",
            where="recipe field freeze_backbone_stages",
            fix=f"give a number from 0 to {deepest}",
        )
    frozen = [layer for layer, stride in layers if stride <= 2**stages]
    for layer in frozen:
        layer.requires_grad_(False)
    return frozen


def _layers_with_strides(detector: nn.Module) -> list[tuple[nn.Module, int]]:
    """Layers of the backbone in order with the stride after each, from the trunk's own table."""
    backbone = find_backbone(detector)
    for module in backbone.modules() if backbone is not None else ():
        strides = getattr(module, "strides", None)
        if isinstance(module, nn.ModuleDict) and isinstance(strides, dict):
            return [(module[name], strides[name]) for name in strides]
    return []
