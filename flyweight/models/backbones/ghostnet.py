"""GhostNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.classifier import Classifier
from flyweight.models.backbones.initialisation import initialise_backbone
from flyweight.models.backbones.trunk import Plan, Trunk
from flyweight.models.layers.activations import relu
from flyweight.models.layers.conv import ConvNormAct, NormFactory
from flyweight.models.layers.ghost import GhostBottleneck
from flyweight.models.layers.squeeze_excite import SqueezeExcite
from flyweight.models.layers.widths import make_divisible


class _Row(NamedTuple):
    """One ghost bottleneck of table 7 of the paper."""

    kernel_size: int
    expanded: int
    out: int
    squeeze_excite: bool
    stride: int


_ROWS: tuple[_Row, ...] = (
    _Row(3, 16, 16, False, 1),
    _Row(3, 48, 24, False, 2),
    _Row(3, 72, 24, False, 1),
    _Row(5, 72, 40, True, 2),
    _Row(5, 120, 40, True, 1),
    _Row(3, 240, 80, False, 2),
    _Row(3, 200, 80, False, 1),
    _Row(3, 184, 80, False, 1),
    _Row(3, 184, 80, False, 1),
    _Row(3, 480, 112, True, 1),
    _Row(3, 672, 112, True, 1),
    _Row(5, 672, 160, True, 2),
    _Row(5, 960, 160, False, 1),
    _Row(5, 960, 160, True, 1),
    _Row(5, 960, 160, False, 1),
    _Row(5, 960, 160, True, 1),
)
_FINAL = 960
_HIDDEN = 1280
# The authors' code rounds to multiples of 4, in squeeze-excite too.
_DIVISOR = 4


class GhostNet(Backbone):
    """GhostNet, https://arxiv.org/abs/1911.11907, table 7.

    Levels at width 1: C1 16, C2 24, C3 40, C4 112, C4_expanded 672, C5 160, final 960 channels.
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
        channels = make_divisible(16 * width, _DIVISOR)
        plan = Plan()
        stem = ConvNormAct(3, channels, stride=2, norm=norm, act=relu)
        plan.add("stem", stem, channels=channels, stride=2)
        for index, row in enumerate(_ROWS, start=1):
            out_channels = make_divisible(row.out * width, _DIVISOR)
            block = GhostBottleneck(
                channels,
                out_channels,
                expanded_channels=make_divisible(row.expanded * width, _DIVISOR),
                kernel_size=row.kernel_size,
                stride=row.stride,
                norm=norm,
                squeeze=_squeeze_excite if row.squeeze_excite else None,
            )
            plan.add(f"block{index}", block, channels=out_channels, stride=row.stride)
            channels = out_channels
        final_channels = make_divisible(_FINAL * width, _DIVISOR)
        final = ConvNormAct(channels, final_channels, kernel_size=1, norm=norm, act=relu)
        plan.add("final", final, channels=final_channels, stride=1)
        self.layers = Trunk(plan, outputs, owner="ghostnet")
        self.feature_info = self.layers.feature_info
        initialise_backbone(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> one tensor a level of `feature_info`."""
        features: list[Tensor] = self.layers(x)
        return features


def _squeeze_excite(channels: int) -> nn.Module:
    return SqueezeExcite(channels, make_divisible(channels / 4, _DIVISOR))


def ghostnet_classifier(
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    norm: NormFactory | None = nn.BatchNorm2d,
) -> Classifier:
    """5.18 M parameters and 141.2 MMACs at 224×224 and width 1."""
    backbone = GhostNet(width=width, norm=norm, outputs="classifier")
    return Classifier(
        backbone, num_classes=num_classes, hidden_channels=_HIDDEN, act=relu, dropout=0.2
    )
