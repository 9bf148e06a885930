"""MobileNetV3, Large and Small."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.classifier import Classifier
from flyweight.models.backbones.initialisation import initialise_backbone
from flyweight.models.backbones.trunk import Plan, Trunk
from flyweight.models.layers.activations import hard_swish, relu
from flyweight.models.layers.conv import ConvNormAct, NormFactory
from flyweight.models.layers.inverted_residual import InvertedResidual
from flyweight.models.layers.squeeze_excite import SqueezeExcite
from flyweight.models.layers.widths import make_divisible


class _Row(NamedTuple):
    """One bottleneck of tables 1 and 2 of the paper."""

    kernel_size: int
    expanded: int
    out: int
    squeeze_excite: bool
    hard_swish: bool
    stride: int


_LARGE: tuple[_Row, ...] = (
    _Row(3, 16, 16, False, False, 1),
    _Row(3, 64, 24, False, False, 2),
    _Row(3, 72, 24, False, False, 1),
    _Row(5, 72, 40, True, False, 2),
    _Row(5, 120, 40, True, False, 1),
    _Row(5, 120, 40, True, False, 1),
    _Row(3, 240, 80, False, True, 2),
    _Row(3, 200, 80, False, True, 1),
    _Row(3, 184, 80, False, True, 1),
    _Row(3, 184, 80, False, True, 1),
    _Row(3, 480, 112, True, True, 1),
    _Row(3, 672, 112, True, True, 1),
    _Row(5, 672, 160, True, True, 2),
    _Row(5, 960, 160, True, True, 1),
    _Row(5, 960, 160, True, True, 1),
)
_SMALL: tuple[_Row, ...] = (
    _Row(3, 16, 16, True, False, 2),
    _Row(3, 72, 24, False, False, 2),
    _Row(3, 88, 24, False, False, 1),
    _Row(5, 96, 40, True, True, 2),
    _Row(5, 240, 40, True, True, 1),
    _Row(5, 240, 40, True, True, 1),
    _Row(5, 120, 48, True, True, 1),
    _Row(5, 144, 48, True, True, 1),
    _Row(5, 288, 96, True, True, 2),
    _Row(5, 576, 96, True, True, 1),
    _Row(5, 576, 96, True, True, 1),
)
# The last blocks of either table form the tail whose channels `reduced_tail` halves.
_TAIL_BLOCKS = 3

# The published weights were trained with these (TF's epsilon; momentum in torch's sense).
batch_norm_v3: NormFactory = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)


def _squeeze_excite(channels: int) -> nn.Module:
    return SqueezeExcite(channels, make_divisible(channels // 4))


def _build_plan(
    rows: tuple[_Row, ...], *, width: float, norm: NormFactory | None, reduced_tail: bool
) -> Plan:
    channels = make_divisible(16 * width)
    plan = Plan()
    stem = ConvNormAct(3, channels, stride=2, norm=norm, act=hard_swish)
    plan.add("stem", stem, channels=channels, stride=2)
    for index, row in enumerate(rows, start=1):
        in_tail = index - (len(rows) - _TAIL_BLOCKS)
        out, expanded = row.out, row.expanded
        if reduced_tail and in_tail > 0:
            # Section 6.3. The first block of the tail keeps its expansion: that is still C4.
            out //= 2
            expanded = expanded // 2 if in_tail > 1 else expanded
        out_channels = make_divisible(out * width)
        block = InvertedResidual(
            channels,
            out_channels,
            expanded_channels=make_divisible(expanded * width),
            kernel_size=row.kernel_size,
            stride=row.stride,
            norm=norm,
            act=hard_swish if row.hard_swish else relu,
            squeeze=_squeeze_excite if row.squeeze_excite else None,
        )
        plan.add(f"block{index}", block, channels=out_channels, stride=row.stride)
        channels = out_channels
    final = ConvNormAct(channels, 6 * channels, kernel_size=1, norm=norm, act=hard_swish)
    plan.add("final", final, channels=6 * channels, stride=1)
    return plan


class MobileNetV3(Backbone):
    """Searching for MobileNetV3, https://arxiv.org/abs/1905.02244.

    `mobilenet_v3_large` and `mobilenet_v3_small` below give it its table.
    """

    def __init__(
        self,
        rows: tuple[_Row, ...],
        *,
        width: float,
        norm: NormFactory | None,
        reduced_tail: bool,
        outputs: str | Sequence[str],
        owner: str,
    ) -> None:
        super().__init__()
        self.architecture = {"width": width, "reduced_tail": reduced_tail}
        plan = _build_plan(rows, width=width, norm=norm, reduced_tail=reduced_tail)
        self.layers = Trunk(plan, outputs, owner=owner)
        self.feature_info = self.layers.feature_info
        initialise_backbone(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> one tensor a level of `feature_info`."""
        features: list[Tensor] = self.layers(x)
        return features


def mobilenet_v3_large(
    *,
    width: float = 1.0,
    norm: NormFactory | None = batch_norm_v3,
    reduced_tail: bool = False,
    outputs: str | Sequence[str] = "stages",
) -> MobileNetV3:
    """Table 1. Levels at width 1: C1 16, C2 24, C3 40, C4 112, C4_expanded 672, C5 160, final 960.

    With `reduced_tail` C5 80, final 480.
    """
    return MobileNetV3(
        _LARGE,
        width=width,
        norm=norm,
        reduced_tail=reduced_tail,
        outputs=outputs,
        owner="mobilenet_v3_large",
    )


def mobilenet_v3_small(
    *,
    width: float = 1.0,
    norm: NormFactory | None = batch_norm_v3,
    reduced_tail: bool = False,
    outputs: str | Sequence[str] = "stages",
) -> MobileNetV3:
    """Table 2. Levels at width 1: C1 16, C2 16, C3 24, C4 48, C4_expanded 288, C5 96, final 576.

    C1 is the stem's output. With `reduced_tail` C5 48, final 288.
    """
    return MobileNetV3(
        _SMALL,
        width=width,
        norm=norm,
        reduced_tail=reduced_tail,
        outputs=outputs,
        owner="mobilenet_v3_small",
    )


def mobilenet_v3_large_classifier(
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    norm: NormFactory | None = batch_norm_v3,
    reduced_tail: bool = False,
) -> Classifier:
    """5.48 M parameters and 216.6 MMACs at 224×224 and width 1."""
    backbone = mobilenet_v3_large(
        width=width, norm=norm, reduced_tail=reduced_tail, outputs="classifier"
    )
    hidden = make_divisible((640 if reduced_tail else 1280) * width)
    return Classifier(
        backbone, num_classes=num_classes, hidden_channels=hidden, act=hard_swish, dropout=0.2
    )


def mobilenet_v3_small_classifier(
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    norm: NormFactory | None = batch_norm_v3,
    reduced_tail: bool = False,
) -> Classifier:
    """2.54 M parameters and 56.5 MMACs at 224×224 and width 1."""
    backbone = mobilenet_v3_small(
        width=width, norm=norm, reduced_tail=reduced_tail, outputs="classifier"
    )
    hidden = make_divisible((512 if reduced_tail else 1024) * width)
    return Classifier(
        backbone, num_classes=num_classes, hidden_channels=hidden, act=hard_swish, dropout=0.2
    )
