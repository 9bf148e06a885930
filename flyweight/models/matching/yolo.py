"""YOLO's matching: the anchor of best shape in the cell of the object's centre (Redmon and Farhadi
2018, https://arxiv.org/abs/1804.02767, section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flyweight.models.matching.parts import image_parts
from flyweight.models.ops.boxes import box_iou

# B images, G object slots of an image (some empty), A anchors of all cells, S anchor sizes of all
# levels


class YOLOMatcher:
    """Each object takes the anchor whose size fits best, over all levels, in the cell that its
    centre lies in. Where two objects want one anchor, the later has it.

    Anchors are in the order of levels, in a level cell by cell, row-major, in a cell in the order
    of its sizes.

    Args:
        sizes_wh: of each level the (w, h) of its anchors, pixels of the input.
        grids: (rows, columns) of each level.
        strides: of each level, pixels.
        iou_threshold: with it, an object also takes every anchor of its centre's cells whose size
            fits by more (YOLOv4; `iou_thresh=0.213` in its cfg); None for the best alone.
    """

    def __init__(
        self,
        sizes_wh: Sequence[Sequence[tuple[float, float]]],
        grids: Sequence[tuple[int, int]],
        strides: Sequence[int],
        *,
        iou_threshold: float | None = None,
    ) -> None:
        self.iou_threshold = iou_threshold
        self.anchors = 0
        sizes, places = [], []
        for level, (rows, columns), stride in zip(sizes_wh, grids, strides, strict=True):
            for index, size in enumerate(level):
                sizes.append(size)
                places.append((self.anchors + index, len(level), rows, columns, stride))
            self.anchors += rows * columns * len(level)
        self._sizes_wh = torch.tensor(sizes, dtype=torch.float32)
        # Of each size: where its level's first cell has it, anchors a cell, rows, columns, stride.
        self._places = torch.tensor(places)

    @torch.no_grad()
    def __call__(self, boxes_xyxy: Tensor, valid: Tensor) -> Tensor:
        """The object of each anchor.

        Args:
            boxes_xyxy: `[B, G, 4]` pixels, padded.
            valid: bool `[B, G]`, false where a slot is padding.

        Returns:
            int64 `[B, A]`: the slot of the object, or -1 for background.
        """
        images, slots = valid.shape
        if boxes_xyxy.device != self._places.device:
            self._sizes_wh = self._sizes_wh.to(boxes_xyxy.device)
            self._places = self._places.to(boxes_xyxy.device)
        first, per_cell, rows, columns, stride = self._places.unbind(1)
        centre = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2
        cell = torch.floor(centre.unsqueeze(2) / stride.unsqueeze(-1)).to(torch.int64)
        # A centre on the far border of the image is in the last cell.
        column = torch.minimum(cell[..., 0].clamp(min=0), columns - 1)
        row = torch.minimum(cell[..., 1].clamp(min=0), rows - 1)
        anchor = first + (row * columns + column) * per_cell
        fit = size_iou(boxes_xyxy[..., 2:] - boxes_xyxy[..., :2], self._sizes_wh)
        taken = torch.zeros_like(fit, dtype=torch.bool)
        taken.scatter_(2, fit.argmax(dim=2, keepdim=True), True)
        if self.iou_threshold is not None:
            taken |= fit > self.iou_threshold
        taken &= valid.unsqueeze(-1)
        slot = torch.arange(slots, device=valid.device).view(1, slots, 1)
        matches = valid.new_full((images, self.anchors), -1, dtype=torch.int64)
        # amax, not a plain scatter: the later object wins on every device, in any order of writes.
        return matches.scatter_reduce_(
            1, anchor.flatten(1), torch.where(taken, slot, -1).flatten(1), reduce="amax"
        )


def size_iou(a_wh: Tensor, b_wh: Tensor) -> Tensor:
    """IoU `[..., N, M]` of boxes of sizes `a_wh [..., N, 2]` and `b_wh [M, 2]` about one centre."""
    a, b = a_wh.unsqueeze(-2), b_wh.unsqueeze(-3)
    common = torch.minimum(a, b).prod(dim=-1)
    return (common / (a.prod(dim=-1) + b.prod(dim=-1) - common)).nan_to_num(nan=0.0)


@torch.no_grad()
def ignore_by_iou(
    predicted_xyxy: Tensor, boxes_xyxy: Tensor, valid: Tensor, *, threshold: float
) -> Tensor:
    """Predictions that overlap some object well: none of them is called background (section 2.1).

    Args:
        predicted_xyxy: `[B, A, 4]` pixels, the boxes that the network says.
        boxes_xyxy: `[B, G, 4]` pixels, padded.
        valid: bool `[B, G]`, false where a slot is padding.
        threshold: 0.5 in the paper, `ignore_thresh=0.7` in its cfg and in YOLOv4's.

    Returns:
        bool `[B, A]`: the best IoU is above the threshold.
    """
    images, slots = valid.shape
    anchors = predicted_xyxy.shape[1]
    if slots == 0 or images == 0:
        return valid.new_zeros((images, anchors))
    parts = []
    for part in image_parts(images, pairs_per_image=slots * anchors):
        iou = box_iou(boxes_xyxy[part], predicted_xyxy[part].float())
        parts.append(iou.masked_fill_(~valid[part].unsqueeze(-1), 0.0).amax(dim=1) > threshold)
    return torch.cat(parts)
