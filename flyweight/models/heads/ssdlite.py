"""SSDlite's head: SSD's with separable convolutions (MobileNetV2, section 6.2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from flyweight.models.heads.dense import DenseHead
from flyweight.models.layers import ConvNormAct, NormFactory, relu6


class SeparablePredictor(nn.Sequential):
    """3×3 depthwise with norm and ReLU6, then a plain 1×1 convolution with bias (`output`)."""

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: NormFactory | None = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        self.depthwise = ConvNormAct(
            in_channels, in_channels, kernel_size=3, groups=in_channels, norm=norm, act=relu6
        )
        self.output = nn.Conv2d(in_channels, out_channels, 1)


class SSDLiteHead(nn.Module):
    """Class logits and box deltas of every anchor, each from its own branch on every level.

    Args:
        in_channels: of each level.
        boxes_per_level: default boxes in a cell of each level.
        num_classes: without background.
        norm: None where BatchNorm has been folded away.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        boxes_per_level: Sequence[int],
        *,
        num_classes: int,
        norm: NormFactory | None = nn.BatchNorm2d,
    ) -> None:
        super().__init__()

        def branch(columns: int) -> DenseHead:
            return DenseHead(
                (
                    SeparablePredictor(channels, boxes * columns, norm=norm)
                    for channels, boxes in zip(in_channels, boxes_per_level, strict=True)
                ),
                columns=columns,
            )

        self.classification = branch(num_classes + 1)
        self.regression = branch(4)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Deltas `[B, A, 4]` and logits `[B, A, num_classes + 1]`, background first."""
        return self.regression(features), self.classification(features)
