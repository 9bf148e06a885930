"""How much each channel matters: what is pruned last.

All by Torch-Pruning, over all layers of a group; relative to the group's mean, so that the groups
of a network can be ranked together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch_pruning.pruner.importance import (
    BNScaleImportance,
    GroupMagnitudeImportance,
    GroupTaylorImportance,
    Importance,
)

from flyweight.compression.prune_groups import ChannelGroup
from flyweight.core.errors import InputError
from flyweight.models.detectors.detector import Detector
from flyweight.models.detectors.targets import Targets

ImportanceKind = Literal["magnitude", "bn_scale", "taylor"]
IMPORTANCES = get_args(ImportanceKind)

# uint8 `[B, H, W, 3]` and what they show.
LabelledBatches = Iterable[tuple[Tensor, Targets]]


def score_units(group: ChannelGroup, kind: ImportanceKind) -> Tensor:
    """The importance of each unit `[U]`, 1 on average.

    "magnitude": squares of the weights (Li et al. 2017, https://arxiv.org/abs/1608.08710, over all
    layers of the group); "bn_scale": the scales of BatchNorm (Liu et al. 2017, Network Slimming,
    https://arxiv.org/abs/1708.06519), where the group has any, else as "magnitude"; "taylor": what
    the loss would change by, to first order (Molchanov et al. 2019,
    https://arxiv.org/abs/1906.10771); the layers must have their gradients.
    """
    scorer: Importance = GroupMagnitudeImportance(normalizer=None)
    if kind == "bn_scale" and _has_scales(group):
        scorer = BNScaleImportance(normalizer=None)
    elif kind == "taylor":
        scorer = GroupTaylorImportance(normalizer=None)
    scores: Tensor = scorer(group.members)[: group.units].double()
    return scores / scores.mean().clamp_min(torch.finfo(scores.dtype).tiny)


def _has_scales(group: ChannelGroup) -> bool:
    return any(
        isinstance(dep.target.module, nn.modules.batchnorm._BatchNorm) and dep.target.module.affine
        for dep, _ in group.members
    )


def gradients(detector: Detector, batches: LabelledBatches) -> dict[str, Tensor]:
    """The gradient of the loss over all batches, of each parameter of `detector.model` by name.

    Norms keep their statistics; the detector ends without gradients.

    Raises:
        InputError: there are no batches.
    """
    training = detector.training
    detector.eval().zero_grad()
    parameters = dict(detector.model.named_parameters())
    trained = {name: each.requires_grad for name, each in parameters.items()}
    detector.model.requires_grad_(True)
    seen = 0
    for images, targets in batches:
        losses = detector.loss(images.to(detector.device), targets.to(detector.device))
        torch.stack([each for each in losses.values()]).sum().backward()
        seen += 1
    found = {
        name: torch.zeros_like(each) if each.grad is None else each.grad
        for name, each in parameters.items()
    }
    for name, each in parameters.items():
        each.grad = None
        each.requires_grad_(trained[name])
    detector.train(training)
    if not seen:
        raise InputError(
            "importance by Taylor needs labelled images",
            where="importance",
            fix="give a data set, or choose magnitude",
        )
    return found
