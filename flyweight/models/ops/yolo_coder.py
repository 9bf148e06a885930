"""YOLO's boxes: a place in a cell and the size of an anchor (Redmon and Farhadi 2017,
https://arxiv.org/abs/1612.08242, section 2, "Direct location prediction")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flyweight.models.ops.anchors import AnchorGrid
from flyweight.models.ops.coder import MAX_LOG_SCALE

# A anchors over all levels

# Objects without a width or a height have no logarithm.
SMALLEST_SIDE = 1e-3


class YOLOCoder(nn.Module):
    """Offsets `(t_x, t_y, t_w, t_h)` of boxes from a grid's cells and anchors.

    With the cell in column c, its stride, an anchor's width p and the level's scale s:
        x = ((σ(t_x) - 1/2)·s + 1/2 + c)·stride        w = p·exp(t_w)
    and alike for y and h. At s = 1 (YOLOv3) the border of a cell is only reached at infinity;
    YOLOv4's s > 1 puts it within reach (https://arxiv.org/abs/2004.10934, section 3.4, "Eliminate
    grid sensitivity"; `scale_x_y` in its cfg).

    What does not depend on the offsets is a constant: an exported graph keeps a sigmoid, an
    exponential, two multiplications and a few additions.

    Args:
        anchors: their centres in the middle of cells.
        strides: pixels from cell to cell of each level.
        scale_xy: s of each level.
    """

    span: Tensor
    start: Tensor
    half_size: Tensor

    def __init__(
        self, anchors: AnchorGrid, *, strides: Sequence[float], scale_xy: Sequence[float]
    ) -> None:
        super().__init__()
        centre, size = anchors.boxes_cxcywh[:, :2], anchors.boxes_cxcywh[:, 2:]
        levels = anchors.level_of_anchor
        stride = centre.new_tensor(list(strides))[levels].unsqueeze(-1)
        scale = centre.new_tensor(list(scale_xy))[levels].unsqueeze(-1)
        span = (stride * scale).expand_as(centre)
        # Not persistent: the config rebuilds them, a checkpoint holds only what was learnt.
        self.register_buffer("span", span.clone(), persistent=False)
        self.register_buffer("start", centre - 0.5 * span, persistent=False)
        self.register_buffer("half_size", 0.5 * size, persistent=False)

    def encode(self, boxes_xyxy: Tensor) -> Tensor:
        """What each anchor should say of its box, `[..., A, 4]`, finite.

        Args:
            boxes_xyxy: `[..., A, 4]` pixels, of each anchor the box in whose cell it lies.

        Returns:
            `(σ(t_x), σ(t_y), t_w, t_h)`: the first two from 0 to 1, since their logits are
            infinite at the ends.
        """
        centre = 0.5 * (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:])
        size = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=SMALLEST_SIDE)
        place = ((centre - self.start) / self.span).clamp(0, 1)
        return torch.cat((place, torch.log(0.5 * size / self.half_size)), dim=-1)

    def decode(self, offsets: Tensor) -> Tensor:
        """Boxes `xyxy [..., A, 4]` in input pixels, from `offsets [..., A, 4]`.

        They may reach beyond the input. No side grows beyond 62.5 times its anchor.
        """
        middle = torch.sigmoid(offsets[..., :2]) * self.span + self.start
        half = torch.exp(offsets[..., 2:].clamp(max=MAX_LOG_SCALE)) * self.half_size
        return torch.cat((middle - half, middle + half), dim=-1)
