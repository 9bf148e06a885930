"""What every backbone is to the rooms above."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from flyweight.models.backbones.feature_info import FeatureInfo


class Backbone(nn.Module):
    """Images in, feature levels out. Only the names; each family builds and runs itself.

    Attributes:
        feature_info: the levels that `forward` gives, coarsest last.
        architecture: the keyword arguments that fix the shapes of its weights beside the
            outputs (`width`, ...): the classifier it is cut from is built with the same.
    """

    feature_info: tuple[FeatureInfo, ...]
    architecture: dict[str, Any]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> one tensor a level of `feature_info`."""
        raise NotImplementedError
