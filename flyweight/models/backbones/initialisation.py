"""Weights of a backbone before any training."""

from __future__ import annotations

from torch import nn


def initialise_backbone(module: nn.Module) -> None:
    """Kaiming normal over the fan out for convolutions, identity for norms.

    Delving Deep into Rectifiers, https://arxiv.org/abs/1502.01852, equation 14 (backward case),
    as torchvision initialises its MobileNets.
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out")
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        elif isinstance(child, (nn.BatchNorm2d, nn.GroupNorm)) and child.affine:
            nn.init.ones_(child.weight)
            nn.init.zeros_(child.bias)
