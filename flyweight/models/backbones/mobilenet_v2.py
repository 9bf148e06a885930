"""MobileNetV2."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.classifier import Classifier
from flyweight.models.backbones.initialisation import initialise_backbone
from flyweight.models.backbones.trunk import Plan, Trunk
from flyweight.models.layers.activations import relu6
from flyweight.models.layers.conv import ConvNormAct, NormFactory
from flyweight.models.layers.inverted_residual import InvertedResidual
from flyweight.models.layers.widths import make_divisible

# Table 2 of the paper: expansion factor t, output channels c, repeats n, stride s of the first.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobileNetV2(Backbone):
    """MobileNetV2: Inverted Residuals and Linear Bottlenecks, https://arxiv.org/abs/1801.04381.

    Levels at width 1: C1 16, C2 24, C3 32, C4 96, C4_expanded 576, C5 320, final 1280 channels.
    The final convolution never gets narrower than 1280 (section 4: the multiplier is applied to
    every layer but the last where it is below 1).
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        norm: NormFactory | None = nn.BatchNorm2d,
        outputs: str | Sequence[str] = "stages",
    ) -> None:
        super().__init__()
        self.architecture = {"width": width}
        channels = make_divisible(32 * width)
        plan = Plan()
        stem = ConvNormAct(3, channels, stride=2, norm=norm, act=relu6)
        plan.add("stem", stem, channels=channels, stride=2)
        for expansion, base, repeats, first_stride in _STAGES:
            out_channels = make_divisible(base * width)
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                block = InvertedResidual(
                    channels,
                    out_channels,
                    expanded_channels=channels * expansion,
                    stride=stride,
                    norm=norm,
                    act=relu6,
                )
                plan.add(f"block{len(plan.names)}", block, channels=out_channels, stride=stride)
                channels = out_channels
        final_channels = make_divisible(1280 * max(1.0, width))
        final = ConvNormAct(channels, final_channels, kernel_size=1, norm=norm, act=relu6)
        plan.add("final", final, channels=final_channels, stride=1)
        self.layers = Trunk(plan, outputs, owner="mobilenet_v2")
        self.feature_info = self.layers.feature_info
        initialise_backbone(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> one tensor a level of `feature_info`."""
        features: list[Tensor] = self.layers(x)
        return features


def mobilenet_v2_classifier(
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    norm: NormFactory | None = nn.BatchNorm2d,
) -> Classifier:
    """3.50 M parameters and 300.8 MMACs at 224×224 and width 1."""
    backbone = MobileNetV2(width=width, norm=norm, outputs="classifier")
    return Classifier(backbone, num_classes=num_classes, dropout=0.2)
