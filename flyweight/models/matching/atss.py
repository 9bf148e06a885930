"""Adaptive training sample selection (Zhang et al. 2020, https://arxiv.org/abs/1912.02424)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flyweight.models.matching.parts import image_parts
from flyweight.models.ops.boxes import box_iou

# B images, G object slots of an image (some empty), A anchors, N candidates of an object

# Pixels that an anchor's centre must lie within its object, as in the authors' code.
MARGIN = 0.01


class ATSSMatcher:
    """Algorithm 1: the anchors nearest to an object's centre, `k` on each level, are candidates;
    those whose IoU reaches the candidates' mean plus standard deviation, and whose centre lies
    within the object, are its positives. An anchor of several objects is that of highest IoU.

    Args:
        k: candidates of a level. With K anchors a cell the authors' code takes K times as many.
    """

    def __init__(self, k: int = 9) -> None:
        self.k = k

    @torch.no_grad()
    def __call__(
        self,
        boxes_xyxy: Tensor,
        valid: Tensor,
        anchors_xyxy: Tensor,
        *,
        anchors_per_level: Sequence[int],
    ) -> Tensor:
        """The object of each anchor.

        Args:
            boxes_xyxy: `[B, G, 4]` pixels, padded.
            valid: bool `[B, G]`, false where a slot is padding.
            anchors_xyxy: `[A, 4]` pixels, level by level.
            anchors_per_level: how many of them each level has.

        Returns:
            int64 `[B, A]`: the slot of the object, or -1 for background.
        """
        images, slots = valid.shape
        anchors = len(anchors_xyxy)
        if sum(anchors_per_level) != anchors:
            raise ValueError(f"{anchors} anchors, but {sum(anchors_per_level)} on the levels")
        if slots == 0 or images == 0:
            return valid.new_full((images, anchors), -1, dtype=torch.int64)
        return torch.cat([
            self._match(boxes_xyxy[part], valid[part], anchors_xyxy, anchors_per_level)
            for part in image_parts(images, pairs_per_image=slots * anchors)
        ])  # fmt: skip

    def _match(
        self,
        boxes_xyxy: Tensor,
        valid: Tensor,
        anchors_xyxy: Tensor,
        anchors_per_level: Sequence[int],
    ) -> Tensor:
        centres = (anchors_xyxy[:, :2] + anchors_xyxy[:, 2:]) / 2
        candidates = self._candidates(boxes_xyxy, centres, anchors_per_level)
        iou = box_iou(boxes_xyxy, anchors_xyxy)
        of_candidates = iou.gather(2, candidates)
        threshold = of_candidates.mean(dim=2) + of_candidates.std(dim=2)
        x, y = centres[candidates].unbind(-1)
        x1, y1, x2, y2 = boxes_xyxy.unsqueeze(2).unbind(-1)
        inside = torch.stack((x - x1, y - y1, x2 - x, y2 - y)).amin(dim=0) > MARGIN
        chosen = inside & (of_candidates >= threshold.unsqueeze(-1)) & valid.unsqueeze(-1)
        positive = torch.zeros_like(iou, dtype=torch.bool).scatter_(2, candidates, chosen)
        best_iou, slot = iou.masked_fill_(~positive, -1.0).max(dim=1)
        return slot.masked_fill(best_iou < 0, -1)

    def _candidates(
        self, boxes_xyxy: Tensor, centres: Tensor, anchors_per_level: Sequence[int]
    ) -> Tensor:
        """int64 `[B, G, N]`: anchors, the nearest `k` of each level (lines 3 to 6)."""
        middle = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2
        found, start = [], 0
        for count in anchors_per_level:
            offset = middle.unsqueeze(2) - centres[start : start + count]
            distance = offset.square_().sum(-1)
            nearest = distance.topk(min(self.k, count), dim=2, largest=False).indices
            found.append(nearest + start)
            start += count
        return torch.cat(found, dim=2)
