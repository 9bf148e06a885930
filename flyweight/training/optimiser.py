"""Which parameters are trained, at which rate and decay, by which optimiser."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from flyweight.training.freeze import find_backbone
from flyweight.training.recipe import Recipe

# where torch has one kernel that updates all parameters
FUSED_DEVICES = ("cpu", "cuda", "mps")


def parameter_groups(module: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Trainable parameters in up to four groups: {backbone, rest} x {decayed, not decayed}.

    `module` is a detector, or holds one first among what is trained.

    Norm weights and all biases (every tensor of fewer than two dimensions) are not decayed: decay
    on them regularises nothing and shifts activations (Bello et al. 2021, "ResNet strikes back",
    section 2).
    """
    in_backbone = {id(parameter) for parameter in backbone_parameters(module)}
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            key = (id(parameter) in in_backbone, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": recipe.lr * (recipe.backbone_lr_scale if backbone else 1.0),
            "weight_decay": recipe.weight_decay if decayed else 0.0,
        }
        for (backbone, decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def make_optimizer(module: nn.Module, recipe: Recipe) -> Optimizer:
    """The recipe's optimiser over a detector or what holds one, fused where torch can."""
    groups = parameter_groups(module, recipe)
    fused = next(module.parameters()).device.type in FUSED_DEVICES
    if recipe.optimizer == "sgd":
        return SGD(groups, lr=recipe.lr, momentum=recipe.momentum, fused=fused)
    return AdamW(groups, lr=recipe.lr, fused=fused)


def backbone_parameters(detector: nn.Module) -> Iterable[Tensor]:
    """Parameters of the detector's backbone; none when it has no module of that name."""
    backbone = find_backbone(detector)
    return () if backbone is None else backbone.parameters()


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> None:
    """Scale all gradients down to a common norm of `max_norm` (Pascanu et al. 2013)."""
    torch.nn.utils.clip_grad_norm_(parameters, max_norm, foreach=True)
