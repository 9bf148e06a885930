"""RetinaNet's head: two towers shared by all levels (Lin et al. 2017, section 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from flyweight.core.errors import InputError
from flyweight.models.heads.dense import by_anchor
from flyweight.models.layers import ConvNormAct, DepthwiseSeparable, NormFactory, relu
from flyweight.models.layers.feature_info import FeatureInfo

# B images, A anchors over all levels, P cells of all levels, C classes without background

# Lin et al. 2017, section 4.1: of all convolutions of the head.
INITIAL_STD = 0.01


class RetinaOutputs(NamedTuple):
    """`deltas [B, A, 4]` from the anchors and `logits [B, A, C]`, a sigmoid for each class.

    With an anchor-free branch also `distances [B, P, 4]` of each cell's centre to the left, top,
    right and bottom of its object, in quarters of a cell (at least 0), and `cell_logits [B, P, C]`.
    """

    deltas: Tensor
    logits: Tensor
    distances: Tensor | None = None
    cell_logits: Tensor | None = None


class RetinaBranch(nn.Module):
    """A tower of convolutions and one that predicts, run on each level with the same weights.

    With k kernel size, channels C₀ (of the features), C₁ ... C_n, K anchors in a cell, D columns:
        parameters = Σ k²·C_{i-1}·C_i + k²·C_n·K·D, and biases or norms
        MACs       = the same products times all cells of all levels

    Args:
        in_channels: of every level.
        channels: of the tower's layers.
        boxes: K.
        columns: D, 4 or the classes.
        kernel_size: 3 as published; 1 in the slim RetinaNet.
        norm: of the tower's layers; None for none.
        separable: depthwise separable layers in the tower.
        anchor_free: FSAF's branch, one more convolution to D columns a cell.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        *,
        boxes: int,
        columns: int,
        kernel_size: int = 3,
        norm: NormFactory | None = None,
        separable: bool = False,
        anchor_free: bool = False,
    ) -> None:
        super().__init__()
        self.columns = columns
        self.tower = nn.Sequential()
        before = in_channels
        for count in channels:
            layer: nn.Module = (
                DepthwiseSeparable(
                    before, count, kernel_size=kernel_size, norm=norm, act=None, pointwise_act=relu
                )
                if separable
                else ConvNormAct(before, count, kernel_size=kernel_size, norm=norm, act=relu)
            )
            self.tower.append(layer)
            before = count

        def predictor(out_channels: int) -> nn.Conv2d:
            return nn.Conv2d(before, out_channels, kernel_size, padding=(kernel_size - 1) // 2)

        self.output = predictor(boxes * columns)
        self.anchor_free = predictor(columns) if anchor_free else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=INITIAL_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """`[B, A, D]`, and of the anchor-free branch `[B, P, D]`."""
        rows, cells = [], []
        for feature in features:
            x = self.tower(feature)
            rows.append(by_anchor(self.output(x), self.columns))
            if self.anchor_free is not None:
                cells.append(by_anchor(self.anchor_free(x), self.columns))
        return torch.cat(rows, dim=1), torch.cat(cells, dim=1) if cells else None


class RetinaHead(nn.Module):
    """Classes and boxes from two towers that share nothing with each other.

    Args:
        features: the neck's levels, all of one width.
        boxes: anchors in a cell, the same on every level.
        num_classes: C, without background.
        channels: of the layers of either tower.
        kernel_size: of all convolutions.
        norm: of the towers' layers; None for none.
        separable: depthwise separable towers.
        anchor_free: with FSAF's branch (https://arxiv.org/abs/1903.00621, section 3.1).
        prior: the probability of every class before training (section 4.1, "Initialization").
    """

    def __init__(
        self,
        features: Sequence[FeatureInfo],
        boxes: int,
        *,
        num_classes: int,
        channels: Sequence[int] = (256, 256, 256, 256),
        kernel_size: int = 3,
        norm: NormFactory | None = None,
        separable: bool = False,
        anchor_free: bool = False,
        prior: float = 0.01,
    ) -> None:
        super().__init__()
        widths = {level.channels for level in features}
        if len(widths) != 1:
            raise InputError(
                f"RetinaNet's towers are shared by all levels, whose channels must agree: they "
                f"are {[level.channels for level in features]}",
                where="neck",
                fix="give the neck a number of channels",
            )
        in_channels = widths.pop()

        def branch(columns: int) -> RetinaBranch:
            return RetinaBranch(
                in_channels,
                channels,
                boxes=boxes,
                columns=columns,
                kernel_size=kernel_size,
                norm=norm,
                separable=separable,
                anchor_free=anchor_free,
            )

        self.classification = branch(num_classes)
        self.regression = branch(4)
        for predictor in (self.classification.output, self.classification.anchor_free):
            if predictor is not None and predictor.bias is not None:
                nn.init.constant_(predictor.bias, -math.log((1 - prior) / prior))
        if self.regression.anchor_free is not None and self.regression.anchor_free.bias is not None:
            # Boxes of a cell and more to each side from the start: ReLU's gradient is not lost.
            nn.init.constant_(self.regression.anchor_free.bias, 0.5)

    def forward(self, features: Sequence[Tensor]) -> RetinaOutputs:
        """Raw outputs of the levels `[B, C, H, W]`, finest first."""
        logits, cell_logits = self.classification(features)
        deltas, distances = self.regression(features)
        if distances is not None:
            distances = functional.relu(distances)
        return RetinaOutputs(deltas, logits, distances, cell_logits)
