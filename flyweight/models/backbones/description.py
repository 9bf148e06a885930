"""What every backbone weighs, counted on networks that are never allocated."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from flyweight.models.backbones import BACKBONES, build_backbone, build_classifier

SIZE = 224


@dataclass(frozen=True)
class BackboneEntry:
    """One line of `flyweight models --backbones`, at width 1.

    Attributes:
        name: a key of BACKBONES.
        params: of the classifier with 1,000 classes.
        macs: multiplications of one 224×224 image in it.
        channels: of C2, C3, C4 and C5.
    """

    name: str
    params: int
    macs: int
    channels: tuple[int, ...]


def describe_backbone(name: str) -> BackboneEntry:
    """The figures of one backbone."""
    with torch.device("meta"):
        classifier = build_classifier(name).eval()
        stages = build_backbone(name).feature_info
        images = torch.empty(1, 3, SIZE, SIZE)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        classifier(images)
    return BackboneEntry(
        name=name,
        params=sum(each.numel() for each in classifier.parameters()),
        macs=counter.get_total_flops() // 2,
        channels=tuple(level.channels for level in stages),
    )


def describe_backbones() -> list[BackboneEntry]:
    """The figures of all of them, in the order of BACKBONES."""
    return [describe_backbone(name) for name in BACKBONES]
