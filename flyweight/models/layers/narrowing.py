"""Layers with fewer channels than they were built with: what pruning leaves of them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from flyweight.core.errors import InputError
from flyweight.models.layers.l2_norm import L2Norm

# Whose channels are counted; a norm behind one of the first two has as many as that one gives.
Narrowable = nn.Conv2d | nn.Linear | L2Norm
Norm = _BatchNorm | nn.GroupNorm


def channels_of(layer: Narrowable) -> tuple[int, int]:
    """Input and output channels."""
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels, layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return len(layer.scale), len(layer.scale)


def norm_channels(norm: Norm) -> int:
    """How many channels a norm has."""
    return norm.num_features if isinstance(norm, _BatchNorm) else norm.num_channels


def is_depthwise(layer: nn.Module) -> bool:
    """Whether each channel is convolved alone."""
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1


def narrow(layer: Narrowable, in_channels: int, out_channels: int, *, where: str = "") -> None:
    """Leave `layer` the first of its channels, in place.

    A depthwise convolution stays one; another grouped one keeps its groups.

    Args:
        in_channels, out_channels: at least 1 and at most what there are.
        where: the layer's name, for the InputError.

    Raises:
        InputError: the layer cannot have so many.
    """
    before, after = channels_of(layer), (in_channels, out_channels)
    if not all(1 <= new <= old for new, old in zip(after, before, strict=True)):
        raise _impossible(layer, after, where)
    if isinstance(layer, nn.Conv2d):
        groups = layer.groups
        if is_depthwise(layer):
            groups = in_channels
        if in_channels % groups or out_channels % groups:
            raise _impossible(layer, after, where)
        layer.groups, layer.in_channels, layer.out_channels = groups, *after
        layer.weight = _first(layer.weight, out_channels, in_channels // groups)
    elif isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = after
        layer.weight = _first(layer.weight, out_channels, in_channels)
    else:
        if in_channels != out_channels:
            raise _impossible(layer, after, where)
        layer.scale = _first(layer.scale, out_channels)
    if not isinstance(layer, L2Norm) and layer.bias is not None:
        layer.bias = _first(layer.bias, out_channels)


def narrow_norm(norm: Norm, channels: int, *, where: str = "") -> None:
    """Leave `norm` the first of its channels, in place.

    A GroupNorm loses whole groups: the statistics of the others stay what they were.

    Raises:
        InputError: that is no number of channels of this norm.
    """
    if not 1 <= channels <= norm_channels(norm):
        raise _impossible(norm, (channels, channels), where)
    if isinstance(norm, nn.GroupNorm):
        in_group = channels_in_group(norm)
        if channels % in_group:
            raise _impossible(norm, (channels, channels), where)
        norm.num_groups, norm.num_channels = channels // in_group, channels
    else:
        norm.num_features = channels
        for name in ("running_mean", "running_var"):
            if getattr(norm, name) is not None:
                setattr(norm, name, getattr(norm, name)[:channels].clone())
    for name in ("weight", "bias"):
        if getattr(norm, name) is not None:
            setattr(norm, name, _first(getattr(norm, name), channels))


def channels_in_group(norm: nn.GroupNorm) -> int:
    """How many channels share their mean and variance."""
    return norm.num_channels // norm.num_groups


def _first(parameter: Tensor, *counts: int) -> nn.Parameter:
    """The first `counts` entries of the leading dimensions, as a parameter of its own."""
    kept = parameter.detach()[tuple(slice(count) for count in counts)]
    return nn.Parameter(kept.clone(), requires_grad=parameter.requires_grad)


def _impossible(layer: nn.Module, channels: tuple[int, int], where: str) -> InputError:
    return InputError(
        f"{type(layer).__name__} cannot be narrowed to {channels[0]} channels in and "
        f"{channels[1]} out",
        where=where or None,
    )
