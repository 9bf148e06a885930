"""Darknet-53 and CSPDarknet-53."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.classifier import Classifier
from flyweight.models.backbones.initialisation import initialise_backbone
from flyweight.models.backbones.trunk import Plan, Trunk
from flyweight.models.layers.activations import ActFactory, leaky_relu, mish
from flyweight.models.layers.conv import ConvNormAct, NormFactory
from flyweight.models.layers.csp import CSPStage
from flyweight.models.layers.darknet_residual import DarknetResidual
from flyweight.models.layers.widths import make_divisible

# Residual blocks and output channels of the five stages, the same in both networks.
_STAGES = ((1, 64), (2, 128), (8, 256), (8, 512), (4, 1024))

_OUTPUT_SETS = {
    "stages": ("C2", "C3", "C4", "C5"),
    "ssdlite": ("C4", "C5"),
    "classifier": ("C5",),
}


class Darknet53(Backbone):
    """YOLOv3, https://arxiv.org/abs/1804.02767, table 1; layers in the order of `yolov3.cfg`.

    Levels at width 1: C0 32, C1 64, C2 128, C3 256, C4 512, C5 1024 channels.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = leaky_relu,
        outputs: str | Sequence[str] = "stages",
    ) -> None:
        super().__init__()
        self.architecture = {"width": width}
        channels = make_divisible(32 * width)
        plan = Plan()
        stem = ConvNormAct(3, channels, norm=norm, act=act)
        plan.add("stem", stem, channels=channels, stride=1)
        for stage, (depth, base) in enumerate(_STAGES, start=1):
            out_channels = make_divisible(base * width)
            down = ConvNormAct(channels, out_channels, stride=2, norm=norm, act=act)
            plan.add(f"down{stage}", down, channels=out_channels, stride=2)
            for index in range(1, depth + 1):
                block = DarknetResidual(
                    out_channels, bottleneck_channels=out_channels // 2, norm=norm, act=act
                )
                plan.add(f"stage{stage}_{index}", block, channels=out_channels, stride=1)
            channels = out_channels
        self.layers = Trunk(plan, outputs, owner="darknet53", sets=_OUTPUT_SETS)
        self.feature_info = self.layers.feature_info
        initialise_backbone(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> one tensor a level of `feature_info`."""
        features: list[Tensor] = self.layers(x)
        return features


class CSPDarknet53(Backbone):
    """YOLOv4, https://arxiv.org/abs/2004.10934, section 3.4; layers in the order of `yolov4.cfg`.

    The first stage keeps all channels in both parts; the others halve them, as published.
    Levels at width 1: C0 32, C1 64, C2 128, C3 256, C4 512, C5 1024 channels.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = mish,
        outputs: str | Sequence[str] = "stages",
    ) -> None:
        super().__init__()
        self.architecture = {"width": width}
        channels = make_divisible(32 * width)
        plan = Plan()
        stem = ConvNormAct(3, channels, norm=norm, act=act)
        plan.add("stem", stem, channels=channels, stride=1)
        for index, (depth, base) in enumerate(_STAGES, start=1):
            out_channels = make_divisible(base * width)
            down = ConvNormAct(channels, out_channels, stride=2, norm=norm, act=act)
            plan.add(f"down{index}", down, channels=out_channels, stride=2)
            half = out_channels // 2
            stage = CSPStage(
                out_channels,
                out_channels,
                part_channels=out_channels if index == 1 else half,
                bottleneck_channels=half,
                depth=depth,
                norm=norm,
                act=act,
            )
            plan.add(f"stage{index}", stage, channels=out_channels, stride=1)
            channels = out_channels
        self.layers = Trunk(plan, outputs, owner="cspdarknet53", sets=_OUTPUT_SETS)
        self.feature_info = self.layers.feature_info
        initialise_backbone(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> one tensor a level of `feature_info`."""
        features: list[Tensor] = self.layers(x)
        return features


def darknet53_classifier(
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    norm: NormFactory | None = nn.BatchNorm2d,
    act: ActFactory = leaky_relu,
) -> Classifier:
    """41.61 M parameters and 7.11 GMACs at 224×224 and width 1."""
    backbone = Darknet53(width=width, norm=norm, act=act, outputs="classifier")
    return Classifier(backbone, num_classes=num_classes, dropout=0.0)


def cspdarknet53_classifier(
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    norm: NormFactory | None = nn.BatchNorm2d,
    act: ActFactory = mish,
) -> Classifier:
    """27.64 M parameters and 5.00 GMACs at 224×224 and width 1."""
    backbone = CSPDarknet53(width=width, norm=norm, act=act, outputs="classifier")
    return Classifier(backbone, num_classes=num_classes, dropout=0.0)
