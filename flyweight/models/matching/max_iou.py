"""SSD's matching (Liu et al. 2016, section 2.2, "Matching strategy"), a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

from flyweight.models.matching.parts import image_parts
from flyweight.models.ops.boxes import box_iou

# B images, G object slots of an image (some empty), A anchors


class MaxIoUMatcher:
    """Each object takes the anchor it overlaps best; every other anchor its best object, if the
    IoU is at least `threshold`.

    Where two objects share a best anchor, the later one has it, as in torchvision's `SSDMatcher`.
    """

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold

    @torch.no_grad()
    def __call__(self, boxes_xyxy: Tensor, valid: Tensor, anchors_xyxy: Tensor) -> Tensor:
        """The object of each anchor.

        Args:
            boxes_xyxy: `[B, G, 4]` pixels, padded.
            valid: bool `[B, G]`, false where a slot is padding.
            anchors_xyxy: `[A, 4]` pixels.

        Returns:
            int64 `[B, A]`: the slot of the object, or -1 for background.
        """
        images, slots = valid.shape
        anchors = len(anchors_xyxy)
        if slots == 0:
            return torch.full((images, anchors), -1, dtype=torch.int64, device=valid.device)
        return torch.cat([
            self._match(boxes_xyxy[part], valid[part], anchors_xyxy)
            for part in image_parts(images, pairs_per_image=slots * anchors)
        ])  # fmt: skip

    def _match(self, boxes_xyxy: Tensor, valid: Tensor, anchors_xyxy: Tensor) -> Tensor:
        iou = box_iou(boxes_xyxy, anchors_xyxy)
        iou.masked_fill_(~valid.unsqueeze(-1), -1.0)
        best_iou, matches = iou.max(dim=1)
        matches.masked_fill_(best_iou < self.threshold, -1)
        best_anchor = iou.argmax(dim=2)
        slots = torch.arange(valid.shape[1], device=valid.device).expand_as(valid)
        # amax, not a plain scatter: the later object wins on every device, in any order of writes.
        forced = torch.full_like(matches, -1)
        forced.scatter_reduce_(1, best_anchor, slots.masked_fill(~valid, -1), reduce="amax")
        return torch.where(forced >= 0, forced, matches)
