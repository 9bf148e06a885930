"""Matching by two IoU thresholds: Faster R-CNN (Ren et al. 2015, section 3.1.2) and RetinaNet
(Lin et al. 2017, section 4.1, "Anchors"), a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

from flyweight.models.matching.levels import restrict_to_level
from flyweight.models.matching.parts import image_parts
from flyweight.models.ops.boxes import box_iou

# B images, G object slots of an image (some empty), A anchors or proposals

BACKGROUND = -1
IGNORED = -2


class TwoThresholdMatcher:
    """Each anchor takes its best object from an IoU of `positive` on, is background below
    `negative`, and belongs to neither between the two.

    Args:
        positive: 0.7 for an RPN, 0.5 for RetinaNet and for the second stage.
        negative: 0.3, 0.4 and 0.5.
        low_quality: each object also gets all anchors that overlap it best, however little; each
            of them still goes to the object that *it* overlaps best, as in torchvision's `Matcher`.
            An object that no anchor touches gets none (there torchvision's takes them all).
    """

    def __init__(self, positive: float, negative: float, *, low_quality: bool) -> None:
        if negative > positive:
            raise ValueError(f"the negative threshold {negative} is above the positive {positive}")
        self.positive = positive
        self.negative = negative
        self.low_quality = low_quality

    @torch.no_grad()
    def __call__(
        self,
        boxes_xyxy: Tensor,
        valid: Tensor,
        anchors_xyxy: Tensor,
        *,
        anchor_valid: Tensor | None = None,
        level_of_box: Tensor | None = None,
        level_of_anchor: Tensor | None = None,
    ) -> Tensor:
        """The object of each anchor.

        Args:
            boxes_xyxy: `[B, G, 4]` pixels, padded.
            valid: bool `[B, G]`, false where a slot is padding.
            anchors_xyxy: `[A, 4]` pixels, or `[B, A, 4]` where each image has its own.
            anchor_valid: bool `[A]` or `[B, A]`, false for padding and for anchors that are kept
                out of the loss; they are ignored and are nobody's best.
            level_of_box: int64 `[B, G]`; with it, an object meets the anchors of its level only.
            level_of_anchor: int64 `[A]`, needed with `level_of_box`.

        Returns:
            int64 `[B, A]`: the slot of the object, -1 for background, -2 for ignored.
        """
        images, slots = valid.shape
        anchors = anchors_xyxy.shape[-2]
        if level_of_box is not None and level_of_anchor is None:
            raise ValueError("level_of_box needs level_of_anchor")
        if anchor_valid is not None:
            anchor_valid = anchor_valid.expand(images, anchors)
        if slots == 0 or images == 0:
            matches = valid.new_full((images, anchors), BACKGROUND, dtype=torch.int64)
        else:
            of_images = anchors_xyxy.expand(images, anchors, 4)
            matches = torch.cat([
                self._match(
                    boxes_xyxy[part],
                    valid[part],
                    of_images[part],
                    anchor_valid=None if anchor_valid is None else anchor_valid[part],
                    level_of_box=None if level_of_box is None else level_of_box[part],
                    level_of_anchor=level_of_anchor,
                )
                for part in image_parts(images, pairs_per_image=slots * anchors)
            ])  # fmt: skip
        if anchor_valid is None:
            return matches
        return matches.masked_fill(~anchor_valid, IGNORED)

    def _match(
        self,
        boxes_xyxy: Tensor,
        valid: Tensor,
        anchors_xyxy: Tensor,
        *,
        anchor_valid: Tensor | None,
        level_of_box: Tensor | None,
        level_of_anchor: Tensor | None,
    ) -> Tensor:
        iou = box_iou(boxes_xyxy, anchors_xyxy)
        iou.masked_fill_(~valid.unsqueeze(-1), -1.0)
        if level_of_box is not None and level_of_anchor is not None:
            iou.masked_fill_(~restrict_to_level(level_of_box, level_of_anchor), -1.0)
        if anchor_valid is not None:
            iou.masked_fill_(~anchor_valid.unsqueeze(1), -1.0)
        best_iou, slot = iou.max(dim=1)
        matches = slot.masked_fill(best_iou < self.positive, IGNORED)
        matches.masked_fill_(best_iou < self.negative, BACKGROUND)
        if not self.low_quality:
            return matches
        # Where nothing overlaps an object, all anchors tie at 0: that is no match.
        best_of_object = iou.amax(dim=2, keepdim=True)
        is_best = ((iou == best_of_object) & (best_of_object > 0)).any(dim=1)
        return torch.where(is_best, slot, matches)
