"""VGG-16, and SSD's reduced form of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from flyweight.models.backbones.backbone import Backbone
from flyweight.models.backbones.classifier import Classifier
from flyweight.models.backbones.initialisation import initialise_backbone
from flyweight.models.backbones.trunk import Plan, Trunk
from flyweight.models.layers.activations import relu
from flyweight.models.layers.conv import ConvNormAct, NormFactory
from flyweight.models.layers.widths import make_divisible

# Configuration D of table 1: channels and number of 3×3 convolutions before each max pooling.
_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_HIDDEN = 4096
_REDUCED_HIDDEN = 1024
_POOLED_CELLS = 7

_OUTPUT_SETS = {
    "stages": ("C2", "C3", "C4", "C5"),
    "ssdlite": ("C4", "C5"),
    "classifier": ("C5",),
}
_ATROUS_OUTPUT_SETS = {
    "stages": ("C2", "C3", "final"),
    "ssd": ("C3", "final"),
    "classifier": ("final",),
}


class VGG16(Backbone):
    """Very Deep Convolutional Networks, https://arxiv.org/abs/1409.1556, table 1 column D.

    Levels are read before the pooling that halves them. At width 1: C0 64, C1 128, C2 256
    (conv3_3), C3 512 (conv4_3), C4 512 (conv5_3, stride 16) and C5 512 (pool5) channels. The
    published network has no norm: its convolutions have biases.

    With `atrous`, SSD's network (https://arxiv.org/abs/1512.02325, section 3.1): pool5 is 3×3 of
    stride 1, and fc6 and fc7 become conv6 (3×3, dilation 6) and conv7 (1×1) of 1024 channels: the
    level `final`, of stride 16. Nothing of stride 32 is left; SSD reads the set "ssd", C3 and
    final.

    Poolings round sizes up, as in Caffe, where both networks come from: every begun cell counts.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        norm: NormFactory | None = None,
        atrous: bool = False,
        outputs: str | Sequence[str] = "stages",
    ) -> None:
        super().__init__()
        self.architecture = {"width": width, "atrous": atrous}
        channels = 3
        plan = Plan()
        for stage, (base, depth) in enumerate(_STAGES, start=1):
            for index in range(1, depth + 1):
                out_channels = make_divisible(base * width)
                conv = ConvNormAct(channels, out_channels, norm=norm, act=relu)
                plan.add(f"conv{stage}_{index}", conv, channels=out_channels, stride=1)
                channels = out_channels
            if stage < len(_STAGES) or not atrous:
                pool = nn.MaxPool2d(2, 2, ceil_mode=True)
                plan.add(f"pool{stage}", pool, channels=channels, stride=2)
        if atrous:
            hidden = make_divisible(_REDUCED_HIDDEN * width)
            final = _reduced_tail(channels, hidden, norm=norm)
            plan.add("final", final, channels=hidden, stride=1)
        sets = _ATROUS_OUTPUT_SETS if atrous else _OUTPUT_SETS
        self.layers = Trunk(plan, outputs, owner="vgg16", sets=sets)
        self.feature_info = self.layers.feature_info
        initialise_backbone(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> one tensor a level of `feature_info`."""
        features: list[Tensor] = self.layers(x)
        return features


def _reduced_tail(channels: int, hidden: int, *, norm: NormFactory | None) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            pool5=nn.MaxPool2d(3, 1, padding=1),
            conv6=ConvNormAct(channels, hidden, dilation=6, norm=norm, act=relu),
            conv7=ConvNormAct(hidden, hidden, kernel_size=1, norm=norm, act=relu),
        )
    )


def vgg16_classifier(
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    norm: NormFactory | None = None,
    atrous: bool = False,
) -> Classifier:
    """138.36 M parameters and 15.47 GMACs at 224×224 and width 1.

    With `atrous`, where fc6 and fc7 are convolutions: 21.51 M parameters, and a linear layer
    over the mean of conv7.
    """
    backbone = VGG16(width=width, norm=norm, atrous=atrous, outputs="classifier")
    if atrous:
        return Classifier(backbone, num_classes=num_classes, dropout=0.5)
    channels = backbone.feature_info[-1].channels
    hidden = make_divisible(_HIDDEN * width)
    head = nn.Sequential(
        OrderedDict(
            pool=nn.AdaptiveAvgPool2d(_POOLED_CELLS),
            flatten=nn.Flatten(),
            fc6=nn.Linear(channels * _POOLED_CELLS**2, hidden),
            act6=relu(),
            dropout6=nn.Dropout(0.5),
            fc7=nn.Linear(hidden, hidden),
            act7=relu(),
            dropout7=nn.Dropout(0.5),
            logits=nn.Linear(hidden, num_classes),
        )
    )
    return Classifier(backbone, head=head)
