"""A backbone read after the first block of a stage, where it changes its stride."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.models.backbones import Backbone
from flyweight.models.detectors.config import Config
from flyweight.models.detectors.parts import make_backbone
from flyweight.models.layers.feature_info import FeatureInfo

SUFFIX = "_first"


class FirstBlocks(Backbone):
    """Levels `C5_first` and the like: C5's stage after its first block.

    torchvision's MobileNetV3 detectors read them ("the locations of C1, ..., Cn-1 blocks"), so
    their weights need them. Names of weights are those of the backbone itself.

    Args:
        backbone: a chain of layers; it gives its layers away.
        levels: the names to read.
    """

    def __init__(self, backbone: Backbone, levels: Sequence[str]) -> None:
        super().__init__()
        self.architecture = backbone.architecture
        self.layers = cast(Any, backbone).layers
        ends = {info.name: info for info in backbone.feature_info}
        strides: dict[str, int] = self.layers.strides
        found: dict[str, FeatureInfo] = {}
        before = 1
        for layer, stride in strides.items():
            name = f"C{stride.bit_length() - 1}{SUFFIX}"
            if stride != before and name in levels:
                found[layer] = FeatureInfo(name, _out_channels(self.layers[layer]), stride)
            before = stride
        last = next(reversed(strides))
        if "final" in levels and last == "final":
            found[last] = ends["final"]
        missing = [level for level in levels if level not in {each.name for each in found.values()}]
        if missing:
            raise InputError(
                f"the backbone has no feature level {missing[0]!r} beside those of first blocks",
                where="levels",
                fix=f"choose from C1{SUFFIX} to C5{SUFFIX} and final",
            )
        self._taps = set(found)
        self.feature_info = tuple(found.values())

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> one tensor a level of `feature_info`."""
        features = []
        for name, layer in self.layers.items():
            x = layer(x)
            if name in self._taps:
                features.append(x)
        return features


def backbone_of_levels(config: Config, levels: Sequence[str], **norm: float) -> Backbone:
    """The backbone of a config, giving `levels`, of first blocks too.

    Args:
        norm: `eps` and `momentum` of its BatchNorm.
    """
    firsts = [level for level in levels if level.endswith(SUFFIX)]
    if not firsts:
        return make_backbone(config, levels, **norm)
    ends = [level.removesuffix(SUFFIX) for level in levels]
    return FirstBlocks(make_backbone(config, ends, **norm), levels)


def _out_channels(layer: nn.Module) -> int:
    """Of a block: those of its last convolution."""
    return [each for each in layer.modules() if isinstance(each, nn.Conv2d)][-1].out_channels
