"""What the builders of all detectors share: norms by name, and the backbone of a config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from typing import Any

from torch import nn

from flyweight.core.errors import InputError
from flyweight.core.preprocessing import Preprocessing
from flyweight.models.backbones import BACKBONES, Backbone, build_backbone
from flyweight.models.detectors.config import Config
from flyweight.models.layers import ActFactory, CmBN, NormFactory, group_norm
from flyweight.models.layers.activations import ACTIVATIONS

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The short and the long side, at most, of what is published with a canvas of whole strides.
PUBLISHED_SIDES = {(800, 1344): (800, 1333), (608, 1008): (600, 1000)}
NORMS = ("batch", "cmbn", "group", "none")


def make_norm(
    kind: str, *, eps: float = 1e-5, momentum: float = 0.1, folded: bool = False
) -> NormFactory | None:
    """A norm by its name; None where there is none, or none any more."""
    if kind not in NORMS:
        raise InputError(f"unknown norm {kind!r}", where="norm", fix=f"choose {', '.join(NORMS)}")
    if kind == "group":
        return group_norm
    if kind == "none" or folded:
        return None
    if kind == "cmbn":
        # how many parts a batch passes in is the recipe's, and set by the training step
        return partial(CmBN, mini_batches=1, eps=eps, momentum=momentum)
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
    try:
        return build_backbone(
            config.backbone, outputs=outputs, width=config.width, norm=norm, **given
        )
    except InputError as error:
        if error.where != "outputs":
            raise
        wanted = outputs if isinstance(outputs, str) else ", ".join(outputs)
        raise InputError(
            f"the neck {getattr(config, 'neck', 'of ' + config.name)!r} reads {wanted}, but "
            f"{error.what}",
            where="levels",
            fix=error.fix,
        ) from error


def named_activation(name: str) -> ActFactory:
    """An activation's factory by its name."""
    if name not in ACTIVATIONS:
        raise InputError(
            f"unknown activation {name!r}", where="act", fix=f"choose {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


def imagenet_preprocessing(size_hw: tuple[int, int]) -> Preprocessing:
    """ImageNet's mean and deviation; where the canvas is not square, pictures keep their shape and
    a batch gets the canvas that its largest needs."""
    scaled = Preprocessing(size_hw=size_hw, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    if size_hw[0] == size_hw[1]:
        return scaled
    short_side, long_side = PUBLISHED_SIDES.get(size_hw, (min(size_hw), max(size_hw)))
    return replace(
        scaled, resize="shortest_side", short_side=short_side, long_side=long_side, canvas="batch"
    )
