"""A shallow backbone for documents: few layers, few element-wise operations, large fields."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.classifier import Classifier
from flyweight.models.backbones.initialisation import initialise_backbone
from flyweight.models.backbones.trunk import Plan, Trunk
from flyweight.models.layers.activations import relu
from flyweight.models.layers.conv import ConvNormAct, NormFactory
from flyweight.models.layers.group_norm import group_norm
from flyweight.models.layers.widths import make_divisible

_STEM_CHANNELS = 24
# Output channels and kernel size of the two blocks of each stride, 4 to 32.
_STAGES = ((48, 3), (96, 3), (208, 5), (416, 5))

_OUTPUT_SETS = {
    "stages": ("C2", "C3", "C4", "C5"),
    "pyramid": ("C4", "C5"),
    "ssdlite": ("C4", "C5"),
    "classifier": ("C5",),
}

document_norm: NormFactory = partial(group_norm, part="document_net")


class DocumentNet(Backbone):
    """Seventeen layers for large, rigid, well-lit objects such as identity cards.

    It follows the rules for light networks of ShuffleNetV2 (https://arxiv.org/abs/1807.11164,
    section 2), which SNet of ThunderNet (https://arxiv.org/abs/1903.11752) is built on, and goes
    further because the task is simple:
    - a dense 3×3 of dilation 2 first: the field of a 5×5 for the price of a 3×3, where maps are
      largest. With its stride of 2 it reads every second row and column only; `stem_dilation` 1
      reads all, at the same price (docs/experiments.md);
    - all else depthwise separable, two blocks a stride: the second has as many channels in as
      out, which costs the least memory access;
    - 5×5 depthwise from stride 16 on: the field of C5 (329 pixels) covers a 224×224 image whole;
    - no shortcuts, which seventeen layers do not need, and one norm and one ReLU a block, after
      the pointwise convolution: element-wise operations cost time and hardly any MACs, and
      GroupNorm, unlike BatchNorm, cannot be folded away;
    - GroupNorm (https://arxiv.org/abs/1803.08494), for detectors train in small batches.

    Levels at width 1: C1 24, C2 48, C3 96, C4 208, C5 416 channels. An FPN reads C4 and C5, the
    set "pyramid". 0.37 M parameters and 60.2 MMACs at 224×224: with an FPN of width 128 on P4 to P7
    whose 3×3 `output` convolutions are depthwise separable (15.1) and RetinaNet's two 1×1 towers
    (88.9) a detector of 164.2 MMACs.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        stem_dilation: int = 2,
        norm: NormFactory | None = document_norm,
        outputs: str | Sequence[str] = "stages",
    ) -> None:
        super().__init__()
        self.architecture = {"width": width, "stem_dilation": stem_dilation}
        channels = make_divisible(_STEM_CHANNELS * width)
        plan = Plan()
        stem = ConvNormAct(3, channels, stride=2, dilation=stem_dilation, norm=norm, act=relu)
        plan.add("stem", stem, channels=channels, stride=2)
        for base, kernel_size in _STAGES:
            out_channels = make_divisible(base * width)
            for stride in (2, 1):
                block = _separable(
                    channels, out_channels, kernel_size=kernel_size, stride=stride, norm=norm
                )
                plan.add(f"block{len(plan.names)}", block, channels=out_channels, stride=stride)
                channels = out_channels
        self.layers = Trunk(plan, outputs, owner="document_net", sets=_OUTPUT_SETS)
        self.feature_info = self.layers.feature_info
        initialise_backbone(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> one tensor a level of `feature_info`."""
        features: list[Tensor] = self.layers(x)
        return features


def _separable(
    in_channels: int, out_channels: int, *, kernel_size: int, stride: int, norm: NormFactory | None
) -> nn.Module:
    """Depthwise and pointwise convolution with nothing in between."""
    return nn.Sequential(
        OrderedDict(
            depthwise=ConvNormAct(
                in_channels,
                in_channels,
                kernel_size=kernel_size,
                stride=stride,
                groups=in_channels,
                norm=None,
                act=None,
            ),
            pointwise=ConvNormAct(in_channels, out_channels, kernel_size=1, norm=norm, act=relu),
        )
    )


def document_net_classifier(
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    stem_dilation: int = 2,
    norm: NormFactory | None = document_norm,
) -> Classifier:
    """For pretraining: a linear layer over the mean of C5."""
    backbone = DocumentNet(
        width=width, stem_dilation=stem_dilation, norm=norm, outputs="classifier"
    )
    return Classifier(backbone, num_classes=num_classes, dropout=0.0)
