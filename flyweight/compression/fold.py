"""BatchNorm folded into the layer before it: the same function with fewer passes over memory.

In evaluation a BatchNorm is `y = (x - mean) / sqrt(var + eps) * weight + bias`, per channel;
after a convolution or linear layer it is therefore part of that layer's weights (Jacob et al.
2018, https://arxiv.org/abs/1712.05877, section 3.2).
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from flyweight.models.layers.deformable import DeformableConv

M = TypeVar("M", bound=nn.Module)
Transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
Foldable = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *Transposed, DeformableConv)
OF_EACH_PICTURE = (nn.GroupNorm, nn.LayerNorm, _InstanceNorm)


def fold(module: M) -> M:
    """A copy in evaluation mode with every foldable BatchNorm gone; `module` stays as it is.

    A BatchNorm folds where it follows a convolution or linear layer directly in the same
    `nn.Sequential`; its place is taken by `nn.Identity`, so that names of weights do not move. Any
    other BatchNorm stays (`unfolded_norms` names them), and so does what is no BatchNorm
    (`kept_norms`). A detector's config says `folded` after it,
    so that its checkpoint is rebuilt without norms.
    """
    folded = copy.deepcopy(module).eval()
    shared = _shared_modules(folded)
    for parent in list(folded.modules()):
        if isinstance(parent, nn.Sequential):
            _fold_sequential(parent, shared)
    config: Any = getattr(folded, "config", None)
    if is_dataclass(config) and hasattr(config, "folded") and not unfolded_norms(folded):
        folded.config = replace(config, folded=True)  # type: ignore[type-var, assignment]
    return folded


def unfolded_norms(module: nn.Module) -> list[str]:
    """Names of the BatchNorms in `module`: those that could not be folded."""
    return [name for name, child in module.named_modules() if isinstance(child, _BatchNorm)]


def kept_norms(module: nn.Module) -> list[str]:
    """Names of the norms that are no part of any layer's weights: GroupNorm and its kin.

    They divide by what each picture itself has, in evaluation too.
    """
    return [name for name, child in module.named_modules() if isinstance(child, OF_EACH_PICTURE)]


def _shared_modules(module: nn.Module) -> set[int]:
    """Ids of the modules that are reached by two names: folding one use would change the other."""
    seen: set[int] = set()
    shared: set[int] = set()
    for _, child in module.named_modules(remove_duplicate=False):
        (shared if id(child) in seen else seen).add(id(child))
    return shared


def _fold_sequential(parent: nn.Sequential, shared: set[int]) -> None:
    children = list(parent.named_children())
    for (_, layer), (name, norm) in itertools.pairwise(children):
        if not isinstance(layer, Foldable) or not isinstance(norm, _BatchNorm):
            continue
        if norm.running_mean is None or id(layer) in shared or id(norm) in shared:
            continue
        weight, bias = folded_weights(
            layer.weight,
            layer.bias,
            norm,
            transposed_groups=layer.groups if isinstance(layer, Transposed) else None,
        )
        layer.weight = nn.Parameter(weight, requires_grad=layer.weight.requires_grad)
        layer.bias = nn.Parameter(bias, requires_grad=layer.weight.requires_grad)
        setattr(parent, name, nn.Identity())


@torch.no_grad()
def folded_weights(
    weight: Tensor,
    bias: Tensor | None,
    norm: _BatchNorm,
    *,
    transposed_groups: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`weight [C, ...]` and `bias [C]` of a layer with `norm`, over C channels, folded into it.

    A transposed convolution of g groups (`transposed_groups`) has weights `[C_in, C / g, k, k]`.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    # In float64: the product of three roundings would otherwise be the largest error of an export.
    scale = 1 / torch.sqrt(norm.running_var.double() + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double()
    if bias is not None:
        shift = shift + bias.double()
    shift = shift * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    if transposed_groups is None:
        broadcast = scale.view(-1, *[1] * (weight.dim() - 1))
    else:
        # Each input channel meets the outputs of its own group.
        by_group = scale.view(transposed_groups, 1, -1)
        inputs = weight.shape[0] // transposed_groups
        by_input = by_group.expand(-1, inputs, -1).reshape(weight.shape[0], -1)
        broadcast = by_input.view(*by_input.shape, *[1] * (weight.dim() - 2))
    folded = (weight.double() * broadcast).to(weight.dtype)
    # Keeps channels-last memory, where the layer had it.
    return folded.contiguous(memory_format=_memory_format(weight)), shift.to(weight.dtype)


def _memory_format(weight: Tensor) -> torch.memory_format:
    if weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format
