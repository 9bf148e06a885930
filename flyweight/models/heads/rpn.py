"""The region proposal network (Ren et al. 2015, Faster R-CNN, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import nms

from flyweight.models.heads.dense import by_anchor
from flyweight.models.heads.initialisation import initialise_head
from flyweight.models.layers import ConvNormAct, relu
from flyweight.models.ops.anchors import AnchorGrid
from flyweight.models.ops.coder import BoxCoder

# B images, A anchors over all levels, N candidates, K proposals

# Section 3.1.3: of all new layers.
INITIAL_STD = 0.01
# Proposals with a side below this many pixels are dropped, as in torchvision.
SMALLEST_SIDE = 1e-3


class RPNHead(nn.Module):
    """A 3×3 convolution with ReLU, then two 1×1 ones, the same weights on every level.

    With C channels, K anchors in a cell:
        parameters = 9·C² + C + 5·K·(C + 1)
        MACs       = (9·C² + 5·K·C) times all cells of all levels

    Args:
        in_channels: C, of every level.
        boxes: K, the same on every level.
    """

    def __init__(self, in_channels: int, boxes: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, in_channels, norm=None, act=relu)
        self.objectness = nn.Conv2d(in_channels, boxes, 1)
        self.regression = nn.Conv2d(in_channels, 4 * boxes, 1)
        initialise_head(self, std=INITIAL_STD)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Objectness `[B, A]`, logits, and deltas `[B, A, 4]` of the levels `[B, C, H, W]`."""
        objectness, deltas = [], []
        for feature in features:
            x = self.conv(feature)
            objectness.append(by_anchor(self.objectness(x), 1).squeeze(-1))
            deltas.append(by_anchor(self.regression(x), 4))
        return torch.cat(objectness, dim=1), torch.cat(deltas, dim=1)


class Proposals(NamedTuple):
    """Padded to one number in all images, so that shapes stay static.

    `boxes_xyxy [B, K, 4]` pixels of the input, in the order of their anchors, then zeros for
    padding; `valid [B, K]` bool.
    """

    boxes_xyxy: Tensor
    valid: Tensor


class ProposalLayer(nn.Module):
    """From the RPN's raw outputs to proposals: the best of each level, NMS, the best of all.

    Section 3.3, "Implementation details"; by level as in Feature Pyramid Networks
    (https://arxiv.org/abs/1612.03144, section 4.1) and torchvision.

    Args:
        anchors: of all levels.
        coder: of the RPN's deltas.
        candidates: of each level before NMS.
        keep: K, proposals of an image after NMS; fewer where there are fewer candidates.
        iou_threshold: IoU above which NMS drops the lower score, among those of a level.
        score_threshold: probability below which there is no proposal.
    """

    def __init__(
        self,
        anchors: AnchorGrid,
        *,
        coder: BoxCoder,
        candidates: int,
        keep: int,
        iou_threshold: float = 0.7,
        score_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        self.anchors = anchors
        self.coder = coder
        self.candidates = tuple(min(candidates, count) for count in anchors.anchors_per_level)
        self.keep = min(keep, sum(self.candidates))
        self.iou_threshold = iou_threshold
        self.score_threshold = score_threshold

    def forward(self, objectness: Tensor, deltas: Tensor) -> Proposals:
        """`Proposals` of `objectness [B, A]` and `deltas [B, A, 4]`; call it without gradients."""
        index = self._candidates(objectness)
        scores = objectness.gather(1, index).float().sigmoid()
        boxes = self._decode(deltas.float(), index)
        sides = (boxes[..., 2:] - boxes[..., :2]).amin(-1)
        allowed = (sides >= SMALLEST_SIDE) & (scores >= self.score_threshold)
        # Last in order, what is not allowed can suppress nothing else.
        scores = scores.masked_fill(~allowed, -1.0)
        scores = scores.masked_fill(~self._survivors(boxes, scores), -1.0)
        best, chosen = scores.topk(self.keep, dim=1)
        # Not in the order of scores: many are all but equal, and the rounding of another runtime
        # would swap rows.
        places = torch.where(best >= 0, index.gather(1, chosen), len(self.anchors)).argsort(dim=1)
        valid = best.gather(1, places) >= 0
        chosen = chosen.gather(1, places)
        boxes = boxes.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 4))
        return Proposals(torch.where(valid.unsqueeze(-1), boxes, 0.0), valid)

    def _candidates(self, objectness: Tensor) -> Tensor:
        """Anchors int64 `[B, N]`, level by level, the best of each."""
        chosen, first = [], 0
        for level, count in zip(
            objectness.split(self.anchors.anchors_per_level, dim=1), self.candidates, strict=True
        ):
            chosen.append(level.topk(count, dim=1).indices + first)
            first += level.shape[1]
        return torch.cat(chosen, dim=1)

    def _decode(self, deltas: Tensor, index: Tensor) -> Tensor:
        """Boxes `xyxy [B, N, 4]` of the anchors `index [B, N]`, within the input."""
        chosen = deltas.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
        boxes = self.coder.decode(chosen, self.anchors.boxes_cxcywh[index])
        height, width = self.anchors.size_hw
        limit = boxes.new_tensor([width, height, width, height])
        return torch.minimum(boxes.clamp(min=0), limit)

    def _survivors(self, boxes_xyxy: Tensor, scores: Tensor) -> Tensor:
        """bool `[B, N]`: what NMS leaves of each level of each image."""
        # Level by level: the levels' places are known, so that no shape depends on the data, and
        # the pairs of boxes to compare are a fifth of those of all levels at once.
        return torch.stack([
            torch.cat([
                self._kept(*level)
                for level in zip(
                    boxes.split(self.candidates), values.split(self.candidates), strict=True
                )
            ])
            for boxes, values in zip(boxes_xyxy, scores, strict=True)
        ])  # fmt: skip

    def _kept(self, boxes_xyxy: Tensor, scores: Tensor) -> Tensor:
        kept = nms(boxes_xyxy, scores, self.iou_threshold)
        return torch.zeros_like(scores).index_fill(0, kept, 1.0) > 0
