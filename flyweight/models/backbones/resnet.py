"""ResNet-18, 34, 50 and 101."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.classifier import Classifier
from flyweight.models.backbones.initialisation import initialise_backbone
from flyweight.models.backbones.trunk import Plan, Trunk
from flyweight.models.layers.activations import relu
from flyweight.models.layers.conv import ConvNormAct, NormFactory
from flyweight.models.layers.residual import BasicBlock, Bottleneck
from flyweight.models.layers.widths import make_divisible

# Table 1 of the paper: blocks of conv2_x to conv5_x, and their channels before the expansion.
_DEPTHS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}
_CHANNELS = (64, 128, 256, 512)
_BASIC = ("resnet18", "resnet34")
# A bottleneck gives four times the channels of its 3×3 convolution.
_EXPANSION = 4

_OUTPUT_SETS = {
    "stages": ("C2", "C3", "C4", "C5"),
    "ssdlite": ("C4", "C5"),
    "classifier": ("C5",),
}


class ResNet(Backbone):
    """Deep Residual Learning, https://arxiv.org/abs/1512.03385, table 1.

    Levels at width 1: C1 64 (conv1), then 64, 128, 256, 512 channels for ResNet-18 and 34 and
    256, 512, 1024, 2048 for ResNet-50 and 101.
    """

    def __init__(
        self,
        name: str,
        *,
        width: float = 1.0,
        norm: NormFactory | None = nn.BatchNorm2d,
        outputs: str | Sequence[str] = "stages",
    ) -> None:
        super().__init__()
        self.architecture = {"width": width}
        channels = make_divisible(64 * width)
        plan = Plan()
        stem = ConvNormAct(3, channels, kernel_size=7, stride=2, norm=norm, act=relu)
        plan.add("stem", stem, channels=channels, stride=2)
        plan.add("pool", nn.MaxPool2d(3, 2, padding=1), channels=channels, stride=2)
        for stage, (base, depth) in enumerate(zip(_CHANNELS, _DEPTHS[name], strict=True), start=1):
            inner = make_divisible(base * width)
            for index in range(depth):
                stride = 2 if index == 0 and stage > 1 else 1
                block: nn.Module
                if name in _BASIC:
                    out_channels = inner
                    block = BasicBlock(channels, out_channels, stride=stride, norm=norm)
                else:
                    out_channels = inner * _EXPANSION
                    block = Bottleneck(
                        channels,
                        out_channels,
                        bottleneck_channels=inner,
                        stride=stride,
                        norm=norm,
                    )
                plan.add(f"layer{stage}_{index + 1}", block, channels=out_channels, stride=stride)
                channels = out_channels
        self.layers = Trunk(plan, outputs, owner=name, sets=_OUTPUT_SETS)
        self.feature_info = self.layers.feature_info
        initialise_backbone(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> one tensor a level of `feature_info`."""
        features: list[Tensor] = self.layers(x)
        return features


def resnet_classifier(
    name: str,
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    norm: NormFactory | None = nn.BatchNorm2d,
) -> Classifier:
    """At 224×224 and width 1, in millions of parameters and GMACs.

    ResNet-18 11.69 and 1.814, ResNet-34 21.80 and 3.664, ResNet-50 25.56 and 4.089, ResNet-101
    44.55 and 7.801.
    """
    backbone = ResNet(name, width=width, norm=norm, outputs="classifier")
    return Classifier(backbone, num_classes=num_classes, dropout=0.0)


RESNETS: dict[str, Callable[..., ResNet]] = {name: partial(ResNet, name) for name in _DEPTHS}
RESNET_CLASSIFIERS: dict[str, Callable[..., Classifier]] = {
    name: partial(resnet_classifier, name) for name in _DEPTHS
}
