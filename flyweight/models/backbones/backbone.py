"""What every backbone is to the rooms above."""

from __future__ import annotations

from typing import Any

from torch import nn

from flyweight.models.backbones.feature_info import FeatureInfo


class Backbone(nn.Module):
    """Images in, feature levels out. Only the names; each family builds and runs itself.

    Called with normalised images `[B, 3, H, W]`, it gives a list of one tensor a level.

    Attributes:
        feature_info: the levels that `forward` gives, coarsest last.
        architecture: the keyword arguments that fix the shapes of its weights beside the
            outputs (`width`, ...): the classifier it is cut from is built with the same.
    """

    feature_info: tuple[FeatureInfo, ...]
    architecture: dict[str, Any]
