"""SqueezeNet 1.0 and 1.1."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.classifier import Classifier
from flyweight.models.backbones.initialisation import initialise_backbone
from flyweight.models.backbones.trunk import Plan, Trunk
from flyweight.models.layers.activations import relu
from flyweight.models.layers.conv import ConvNormAct, NormFactory
from flyweight.models.layers.fire import Fire
from flyweight.models.layers.pooling import GlobalAveragePool
from flyweight.models.layers.widths import make_divisible


class _Table(NamedTuple):
    """Stem channels and kernel, and which fire modules a pooling precedes."""

    stem: int
    kernel_size: int
    pooled: tuple[int, ...]


_VERSIONS = {
    "squeezenet1_0": _Table(96, 7, (2, 5, 9)),
    "squeezenet1_1": _Table(64, 3, (2, 4, 6)),
}
# Squeezed channels and those of either half of the expansion, fire2 to fire9.
_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))

_OUTPUT_SETS = {
    "stages": ("C2", "C3", "C4", "C5"),
    "ssdlite": ("C4", "C5"),
    "classifier": ("C4",),
}


class SqueezeNet(Backbone):
    """SqueezeNet, https://arxiv.org/abs/1602.07360, table 1; 1.1 is of the authors' repository.

    Levels at width 1: C1 96 (1.1: 64), C2 256 (128), C3 512 (256), C4 512 (fire9) channels. The
    network ends at stride 16; C5 is a 3×3 max pooling of C4 without parameters, for necks that
    want it. The published network has no norm: its convolutions have biases.

    The published network pads neither the stem nor the poolings, so its maps are a cell or two
    smaller than the stride says; detectors need grids that start at the image's edge. So
    `padded`, the default, pads both; the weights fit either form.
    """

    def __init__(
        self,
        name: str,
        *,
        width: float = 1.0,
        norm: NormFactory | None = None,
        padded: bool = True,
        outputs: str | Sequence[str] = "stages",
    ) -> None:
        super().__init__()
        self.architecture = {"width": width}
        table = _VERSIONS[name]
        channels = make_divisible(table.stem * width)
        plan = Plan()
        stem = ConvNormAct(
            3,
            channels,
            kernel_size=table.kernel_size,
            stride=2,
            padding=None if padded else 0,
            norm=norm,
            act=relu,
        )
        plan.add("stem", stem, channels=channels, stride=2)
        for index, (squeeze, expand) in enumerate(_FIRES, start=2):
            if index in table.pooled:
                plan.add(f"pool{index}", _pool(padded), channels=channels, stride=2)
            fire = Fire(
                channels,
                squeeze_channels=make_divisible(squeeze * width),
                expand_channels=make_divisible(expand * width),
                norm=norm,
            )
            channels = 2 * make_divisible(expand * width)
            plan.add(f"fire{index}", fire, channels=channels, stride=1)
        plan.add("pool10", _pool(padded), channels=channels, stride=2)
        self.layers = Trunk(plan, outputs, owner=name, sets=_OUTPUT_SETS)
        self.feature_info = self.layers.feature_info
        initialise_backbone(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> one tensor a level of `feature_info`."""
        features: list[Tensor] = self.layers(x)
        return features


def _pool(padded: bool) -> nn.Module:
    return nn.MaxPool2d(3, 2, padding=1) if padded else nn.MaxPool2d(3, 2, ceil_mode=True)


def squeezenet_classifier(
    name: str,
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    norm: NormFactory | None = None,
    padded: bool = False,
) -> Classifier:
    """In millions of parameters and GMACs at 224×224: 1.0 has 1.25 and 0.819, 1.1 1.24 and 0.349.

    Not padded unless asked, as published: the pretrained weights' accuracy is of that form. The
    classifier is a 1×1 convolution before the pooling.
    """
    backbone = SqueezeNet(name, width=width, norm=norm, padded=padded, outputs="classifier")
    logits = nn.Conv2d(backbone.feature_info[-1].channels, num_classes, 1)
    nn.init.normal_(logits.weight, 0.0, 0.01)
    nn.init.zeros_(logits.bias)  # type: ignore[arg-type]
    head = nn.Sequential(
        OrderedDict(
            dropout=nn.Dropout(0.5),
            logits=logits,
            act=relu(),
            pool=GlobalAveragePool(),
            flatten=nn.Flatten(),
        )
    )
    return Classifier(backbone, head=head)


SQUEEZENETS: dict[str, Callable[..., SqueezeNet]] = {
    name: partial(SqueezeNet, name) for name in _VERSIONS
}
SQUEEZENET_CLASSIFIERS: dict[str, Callable[..., Classifier]] = {
    name: partial(squeezenet_classifier, name) for name in _VERSIONS
}
