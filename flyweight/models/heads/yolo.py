"""YOLO's head: one 1×1 convolution says everything about an anchor (Redmon and Farhadi 2018,
https://arxiv.org/abs/1804.02767, sections 2.1 to 2.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from flyweight.models.heads.dense import DenseHead
from flyweight.models.layers import ActFactory, ConvNormAct, NormFactory
from flyweight.models.layers.activations import leaky_relu

# B images, A anchors over all levels, K anchors in a cell, C classes

# Columns before the classes: the four offsets and the objectness.
SHARED_COLUMNS = 5


class YOLOPredictor(nn.Sequential):
    """A 3×3 convolution to twice the channels (`expand`), then a plain 1×1 (`output`).

    With H·W cells and D = 5 + classes:
        parameters = 18·C² + 4·C + 2·C·K·D + K·D
        MACs       = (18·C² + 2·C·K·D) · H·W
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = leaky_relu,
        conv: Callable[..., nn.Module] = ConvNormAct,
    ) -> None:
        super().__init__()
        self.expand = conv(in_channels, 2 * in_channels, norm=norm, act=act)
        self.output = nn.Conv2d(2 * in_channels, out_channels, 1)


class YOLOHead(nn.Module):
    """Offsets, objectness and class logits of every anchor, from one predictor a level.

    The channels of a predictor are K times (t_x, t_y, t_w, t_h, objectness, classes), as in
    Darknet.

    Args:
        in_channels: of each level.
        boxes_per_level: K of each level.
        num_classes: C.
        conv: makes the 3×3 convolution; called like `ConvNormAct`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        boxes_per_level: Sequence[int],
        *,
        num_classes: int,
        norm: NormFactory | None = nn.BatchNorm2d,
        act: ActFactory = leaky_relu,
        conv: Callable[..., nn.Module] = ConvNormAct,
    ) -> None:
        super().__init__()
        columns = SHARED_COLUMNS + num_classes
        self.prediction = DenseHead(
            (
                YOLOPredictor(channels, boxes * columns, norm=norm, act=act, conv=conv)
                for channels, boxes in zip(in_channels, boxes_per_level, strict=True)
            ),
            columns=columns,
        )

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Offsets `[B, A, 4]`, objectness `[B, A]` and class logits `[B, A, C]`."""
        rows = self.prediction(features)
        # A slice, not an index: that would be a Gather in exported graphs.
        return rows[..., :4], rows[..., 4:5].squeeze(-1), rows[..., SHARED_COLUMNS:]


def initialise_outputs(head: YOLOHead, *, prior: float, std: float = 0.01) -> None:
    """Small weights in the last convolutions, and biases that expect an object, and each class of
    it, with probability `prior`; boxes start as the anchors.

    RetinaNet's prior (Lin et al. 2017, https://arxiv.org/abs/1708.02002, section 4.1): the first
    steps are not lost on learning that nearly everything is background.
    """
    columns = head.prediction.columns
    for predictor in head.prediction.levels:
        nn.init.normal_(predictor.get_parameter("output.weight"), std=std)
        bias = predictor.get_parameter("output.bias")
        nn.init.zeros_(bias)
        bias.data.view(-1, columns)[:, 4:] = math.log(prior / (1 - prior))
