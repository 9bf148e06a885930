"""How much a detector that nobody has trained may be able to learn: a proxy, not an accuracy.

Of two detectors that take as long, which one is likely to find more? Three things are known
without training, and their product ranks the candidates:

1. `accuracy`: the backbone's published top-1 on ImageNet, moved to the candidate's multiplications
   by a power law. In the width and resolution tables of MobileNetV1, MobileNetV2 and ShuffleNetV2
   the error falls as MACs^-0.19 (`SCALING`; a test fits it to those tables). Within one family,
   MACs order networks about as well as any proxy that needs no training (Ning et al. 2021,
   https://arxiv.org/abs/2008.03064; White et al. 2022, "A deeper look at zero-cost proxies"), and
   the published accuracy makes families comparable, which MACs alone do not. Multiplications of
   neck and head count half (`BEYOND`): that is a choice, not a measurement.
2. `visible`: objects against the finest stride. An object of two cells or more counts whole, one
   of half a cell not at all, in between by the logarithm.
3. `contained`: objects against the largest receptive field; one that is larger counts by the share
   of it that is seen.

What it leaves out: pretraining, the number of training images, losses, anchors. So differences of
a point mean nothing: train the recommended ones and compare.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flyweight.profiling.advice.convolution import part_of
from flyweight.profiling.advice.levels import levels_of_cost
from flyweight.profiling.operation import NetworkCost

SCALING = 0.19
BEYOND = 0.5


@dataclass(frozen=True)
class Published:
    """A classifier's top-1 on ImageNet, in percent, and its MACs, in millions, in the source."""

    top1: float
    mmacs: float
    source: str


_V1 = "Howard et al. 2017, table 8"
_SHUFFLE = "Zhang et al. 2018 (ShuffleNet), table 2"
_V2 = "Ma et al. 2018 (ShuffleNetV2), table 8"
_TORCHVISION = "torchvision, weights of He et al. 2016 (ResNet)"
# SNets are made of ShuffleNetV2's units; ThunderNet's own figures are for other training.
PUBLISHED: dict[str, Published] = {
    "mobilenet_v1": Published(70.6, 569, _V1),
    "mobilenet_v2": Published(72.0, 300, "Sandler et al. 2018, table 4"),
    "mobilenet_v3_large": Published(75.2, 219, "Howard et al. 2019, table 3"),
    "mobilenet_v3_small": Published(67.4, 56, "Howard et al. 2019, table 3"),
    "shufflenet_v1_g1": Published(66.4, 143, _SHUFFLE),
    "shufflenet_v1_g3": Published(67.4, 137, _SHUFFLE),
    "shufflenet_v1_g8": Published(67.6, 137, _SHUFFLE),
    "shufflenet_v2": Published(69.4, 146, _V2),
    "snet49": Published(69.4, 146, _V2),
    "snet146": Published(69.4, 146, _V2),
    "snet535": Published(69.4, 146, _V2),
    "squeezenet1_1": Published(57.5, 349, "Iandola et al. 2016, and the authors' repository"),
    "ghostnet": Published(73.9, 141, "Han et al. 2020, table 7"),
    "resnet18": Published(69.8, 1814, _TORCHVISION),
    "resnet34": Published(73.3, 3664, _TORCHVISION),
    "resnet50": Published(76.1, 4089, _TORCHVISION),
}


@dataclass(frozen=True)
class Capacity:
    """The proxy of a candidate and its three factors, all 0 to 1."""

    accuracy: float
    visible: float
    contained: float

    @property
    def value(self) -> float:
        """Their product."""
        return self.accuracy * self.visible * self.contained


def capacity(cost: NetworkCost, backbone: str, sides_px: npt.NDArray[np.float64]) -> Capacity:
    """The proxy of a detector.

    Args:
        cost: its operations.
        backbone: a key of PUBLISHED.
        sides_px: √(w·h) `[N]` of the data's objects in pixels of the input; all objects count
            alike. Without any, only the first factor counts.
    """
    levels = levels_of_cost(cost)
    fields = [level.receptive_field for level in levels if level.receptive_field is not None]
    visible = contained = 1.0
    if len(sides_px) and levels:
        visible = float(visibility(sides_px, levels[0].stride).mean())
    if len(sides_px) and fields:
        contained = float(np.minimum(1.0, max(fields) / sides_px).mean())
    return Capacity(expected_accuracy(cost, backbone), visible, contained)


def expected_accuracy(cost: NetworkCost, backbone: str) -> float:
    """Top-1 that the power law gives the backbone for the detector's MACs, 0 to 1."""
    known = PUBLISHED[backbone]
    inside = sum(each.macs for each in cost.operations if part_of(each) == "backbone")
    own = inside / (known.mmacs * 1e6)
    beyond = cost.macs / inside
    error = (1 - known.top1 / 100) * (own * beyond**BEYOND) ** -SCALING
    return float(max(0.0, 1 - error))


def visibility(sides_px: npt.NDArray[np.float64], stride: float) -> npt.NDArray[np.float64]:
    """How far objects of these sides `[N]` stand out of cells of `stride` pixels, 0 to 1."""
    return np.clip((np.log2(sides_px / stride) + 1) / 2, 0.0, 1.0)
