"""What the builders of all detectors share: norms by name, and the backbone of a config."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from inspect import signature
from typing import Any

from torch import nn

from flyweight.core.errors import InputError
from flyweight.models.backbones import BACKBONES, Backbone, build_backbone
from flyweight.models.detectors.config import Config
from flyweight.models.layers import ActFactory, NormFactory, hard_swish, relu, relu6
from flyweight.models.layers.activations import leaky_relu, mish

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMS = ("batch", "group", "none")
ACTIVATIONS: dict[str, ActFactory] = {
    "relu": relu,
    "relu6": relu6,
    "hard_swish": hard_swish,
    "leaky_relu": leaky_relu,
    "mish": mish,
}


def make_norm(
    kind: str, *, eps: float = 1e-5, momentum: float = 0.1, folded: bool = False
) -> NormFactory | None:
    """A norm by its name; None where there is none, or none any more."""
    if kind not in NORMS:
        raise InputError(f"unknown norm {kind!r}", where="norm", fix=f"choose {', '.join(NORMS)}")
    if kind == "group":
        from flyweight.models.layers.group_norm import group_norm

        return group_norm
    if kind == "none" or folded:
        return None
    return partial(nn.BatchNorm2d, eps=eps, momentum=momentum)


def make_backbone(
    config: Config,
    outputs: str | Sequence[str],
    *,
    eps: float = 1e-5,
    momentum: float = 0.1,
    **options: Any,
) -> Backbone:
    """The backbone of a config, giving the levels `outputs`.

    Args:
        eps: of its BatchNorm where the config has no `backbone_norm_eps`.
        momentum: of its BatchNorm.
        options: of the family of backbones, beside `backbone_options`.
    """
    given = dict(config.backbone_options) | options
    if isinstance(given.get("act"), str):
        given["act"] = named_activation(given["act"])
    norm = make_norm(
        config.backbone_norm,
        eps=eps if config.backbone_norm_eps is None else config.backbone_norm_eps,
        momentum=momentum,
        folded=config.folded,
    )
    taken = signature(BACKBONES[config.backbone]).parameters if config.backbone in BACKBONES else {}
    unknown = [option for option in given if taken and option not in taken]
    if unknown:
        raise InputError(
            f"backbone {config.backbone} has no option {unknown[0]!r}",
            where="backbone_options",
            fix=f"choose from {', '.join(taken)}",
        )
    return build_backbone(config.backbone, outputs=outputs, width=config.width, norm=norm, **given)


def named_activation(name: str) -> ActFactory:
    """An activation's factory by its name."""
    if name not in ACTIVATIONS:
        raise InputError(
            f"unknown activation {name!r}", where="act", fix=f"choose {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]
