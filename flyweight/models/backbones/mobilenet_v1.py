"""MobileNetV1."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.classifier import Classifier
from flyweight.models.backbones.initialisation import initialise_backbone
from flyweight.models.backbones.trunk import Plan, Trunk
from flyweight.models.layers.activations import ActFactory, relu6
from flyweight.models.layers.conv import ConvNormAct, NormFactory
from flyweight.models.layers.depthwise import DepthwiseSeparable
from flyweight.models.layers.widths import make_divisible

# Table 1 of the paper: output channels and stride of conv1 to conv13.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)

_OUTPUT_SETS = {
    "stages": ("C2", "C3", "C4", "C5"),
    "ssdlite": ("C4", "C5"),
    "classifier": ("C5",),
}


class MobileNetV1(Backbone):
    """MobileNets, https://arxiv.org/abs/1704.04861, with ReLU6 as in the published TF code.

    Levels at width 1: C1 64, C2 128, C3 256, C4 512 (conv11), C5 1024 (conv13) channels. There
    is no expansion and no convolution after the last block, so SSDlite reads C4 and C5. The Caffe
    version that MobileNet-SSD builds on has plain ReLUs (`act`).
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = relu6,
        outputs: str | Sequence[str] = "stages",
    ) -> None:
        super().__init__()
        self.architecture = {"width": width}
        channels = make_divisible(32 * width)
        plan = Plan()
        stem = ConvNormAct(3, channels, stride=2, norm=norm, act=act)
        plan.add("stem", stem, channels=channels, stride=2)
        for index, (base, stride) in enumerate(_BLOCKS, start=1):
            out_channels = make_divisible(base * width)
            block = DepthwiseSeparable(
                channels, out_channels, stride=stride, norm=norm, act=act, pointwise_act=act
            )
            plan.add(f"block{index}", block, channels=out_channels, stride=stride)
            channels = out_channels
        self.layers = Trunk(plan, outputs, owner="mobilenet_v1", sets=_OUTPUT_SETS)
        self.feature_info = self.layers.feature_info
        initialise_backbone(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> one tensor a level of `feature_info`."""
        features: list[Tensor] = self.layers(x)
        return features


def mobilenet_v1_classifier(
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    norm: NormFactory | None = nn.BatchNorm2d,
) -> Classifier:
    """4.23 M parameters and 568.7 MMACs at 224×224 and width 1."""
    backbone = MobileNetV1(width=width, norm=norm, outputs="classifier")
    return Classifier(backbone, num_classes=num_classes, dropout=0.001)
