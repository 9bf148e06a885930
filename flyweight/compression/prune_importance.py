"""How much each channel matters: what is pruned last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch_pruning.pruner.importance import (
    BNScaleImportance,
    GroupMagnitudeImportance,
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
# Of a layer or a norm, by name, `[channels]`.
Saliencies = Mapping[str, Tensor]


def relative_scores(group: ChannelGroup, kind: ImportanceKind) -> Tensor:
    """The share `[U]` that each unit has of what its group's weights are worth in all.

    By Torch-Pruning, over all layers of the group. "magnitude": squares of the weights (Li et al.
    2017, https://arxiv.org/abs/1608.08710); "bn_scale": the scales of BatchNorm (Liu et al. 2017,
    Network Slimming, https://arxiv.org/abs/1708.06519), where the group has any, else as
    "magnitude". Either says nothing of another group's channels.
    """
    scorer: Importance = GroupMagnitudeImportance(normalizer=None)
    if kind == "bn_scale" and _has_scales(group):
        scorer = BNScaleImportance(normalizer=None)
    scores: Tensor = scorer(group.members)[: group.units].double()
    return scores / scores.sum().clamp_min(torch.finfo(scores.dtype).tiny)


def _has_scales(group: ChannelGroup) -> bool:
    return any(
        isinstance(dep.target.module, nn.modules.batchnorm._BatchNorm) and dep.target.module.affine
        for dep, _ in group.members
    )


def taylor_scores(group: ChannelGroup, saliencies: Saliencies) -> Tensor:
    """What the loss would change by without each unit `[U]`, squared, to first order.

    Of all that makes the unit's channels: norms, and layers that have none behind them. In the
    loss's own unit, so that channels of different groups compare as they are.
    """
    sides = group.unit_of.items()
    norms = [(name, of) for (name, side), of in sides if side == "norm" and name in saliencies]
    makers = norms or [(name, of) for (name, side), of in sides if side == "out"]
    scores = torch.zeros(group.units, dtype=torch.float64)
    for name, of in makers:
        own = of >= 0
        scores.index_add_(0, of[own], saliencies[name][own])
    return scores


def measure_saliencies(detector: Detector, batches: LabelledBatches) -> Saliencies:
    """Of each layer and norm of `detector.model` how the loss depends on its channels.

    Molchanov et al. 2019 (https://arxiv.org/abs/1906.10771, equation 8 and section 3.4): the
    derivative of the loss by a gate on the channel, which is its weights times their gradients
    (scale and shift of a norm; all weights of a channel of a layer), squared, summed over batches.
    Small batches tell more: within one, what pulls in opposite directions cancels.

    Norms keep their statistics; the detector ends without gradients.

    Raises:
        InputError: there are no batches.
    """
    training = detector.training
    detector.eval().zero_grad()
    parameters = dict(detector.model.named_parameters())
    trained = {name: each.requires_grad for name, each in parameters.items()}
    detector.model.requires_grad_(True)
    found = {
        name.rpartition(".")[0]: torch.zeros(len(each), dtype=torch.float64)
        for name, each in parameters.items()
        if each.dim()
    }
    seen = 0
    for images, targets in batches:
        losses = detector.loss(images.to(detector.device), targets.to(detector.device))
        torch.stack(list(losses.values())).sum().backward()
        for layer, by_gate in _gate_gradients(parameters).items():
            found[layer] += by_gate.square()
        detector.zero_grad()
        seen += 1
    for name, each in parameters.items():
        each.requires_grad_(trained[name])
    detector.train(training)
    if not seen:
        raise InputError(
            "importance by Taylor needs labelled images",
            where="importance",
            fix="give a data set, or choose magnitude",
        )
    return found


def _gate_gradients(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of each layer the derivative of the loss by a factor on each channel, `[channels]`."""
    found: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        if parameter.grad is not None and parameter.dim():
            layer = name.rpartition(".")[0]
            product = (parameter.detach() * parameter.grad).reshape(len(parameter), -1)
            found[layer] = found.get(layer, 0) + product.sum(dim=1).double().cpu()
    return found
