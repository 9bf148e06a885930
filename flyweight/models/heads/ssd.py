"""SSD's head: two small predictors on every level (Liu et al. 2016, section 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from flyweight.models.heads.dense import DenseHead
from flyweight.models.layers import ConvNormAct, NormFactory, relu6

# From input and output channels to a module whose last layer is called `output`.
Predictor = Callable[[int, int], nn.Module]


class SeparablePredictor(nn.Sequential):
    """3×3 depthwise with norm and ReLU6, then a plain 1×1 convolution with bias (`output`).

    SSDlite: MobileNetV2, https://arxiv.org/abs/1801.04381, section 6.2.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: NormFactory | None = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        self.depthwise = ConvNormAct(
            in_channels, in_channels, kernel_size=3, groups=in_channels, norm=norm, act=relu6
        )
        self.output = nn.Conv2d(in_channels, out_channels, 1)


class ConvPredictor(nn.Sequential):
    """One convolution with bias (`output`): 3×3 in SSD, 1×1 in MobileNet-SSD."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int = 3) -> None:
        super().__init__()
        self.output = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=(kernel_size - 1) // 2
        )


PREDICTORS = ("separable", "conv3x3", "conv1x1")


def make_predictor(kind: str, *, norm: NormFactory | None) -> Predictor:
    """The predictor of one of the PREDICTORS; `norm` is used by the separable one."""
    if kind == "separable":
        return partial(SeparablePredictor, norm=norm)
    return partial(ConvPredictor, kernel_size={"conv3x3": 3, "conv1x1": 1}[kind])


class SSDHead(nn.Module):
    """Class logits and box deltas of every anchor, each from its own branch on every level.

    Args:
        in_channels: of each level.
        boxes_per_level: default boxes in a cell of each level.
        num_classes: without background.
        predictor: makes the branch of a level from its input and output channels.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        boxes_per_level: Sequence[int],
        *,
        num_classes: int,
        predictor: Predictor = SeparablePredictor,
    ) -> None:
        super().__init__()

        def branch(columns: int) -> DenseHead:
            return DenseHead(
                (
                    predictor(channels, boxes * columns)
                    for channels, boxes in zip(in_channels, boxes_per_level, strict=True)
                ),
                columns=columns,
            )

        self.classification = branch(num_classes + 1)
        self.regression = branch(4)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Deltas `[B, A, 4]` and logits `[B, A, num_classes + 1]`, background first."""
        return self.regression(features), self.classification(features)
