"""Boxes as offsets from anchors (Girshick et al. 2014, appendix C; SSD's variances 0.1 and 0.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# A box may grow to at most this many times its anchor: exp() of a wild logit stays finite.
MAX_LOG_SCALE = math.log(1000.0 / 16)


class BoxCoder:
    """Deltas `(wx·(cx-cxₐ)/wₐ, wy·(cy-cyₐ)/hₐ, ww·log(w/wₐ), wh·log(h/hₐ))`.

    Args:
        weights: of the four terms, the inverses of SSD's variances.
    """

    def __init__(self, weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)) -> None:
        self.weights = weights

    def encode(self, boxes_xyxy: Tensor, anchors_xyxy: Tensor) -> Tensor:
        """Deltas `[..., A, 4]` of `boxes_xyxy [..., A, 4]` from `anchors_xyxy [..., A, 4]`."""
        anchor_wh = anchors_xyxy[..., 2:] - anchors_xyxy[..., :2]
        anchor_centre = anchors_xyxy[..., :2] + 0.5 * anchor_wh
        box_wh = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
        box_centre = boxes_xyxy[..., :2] + 0.5 * box_wh
        weights = boxes_xyxy.new_tensor(self.weights)
        return torch.cat(
            (
                weights[:2] * (box_centre - anchor_centre) / anchor_wh,
                weights[2:] * torch.log(box_wh / anchor_wh),
            ),
            dim=-1,
        )

    def decode(self, deltas: Tensor, anchors_cxcywh: Tensor) -> Tensor:
        """Boxes `xyxy [..., A, 4]` in the anchors' unit, the inverse of `encode`."""
        return _decode(deltas, *self.terms(anchors_cxcywh))

    def terms(self, anchors_cxcywh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What decoding needs of the anchors `[..., A, 4]`.

        Returns:
            The factor of the deltas `[..., A, 4]`, centres `[..., A, 2]`, half sizes `[..., A, 2]`.
        """
        centre, size = anchors_cxcywh[..., :2], anchors_cxcywh[..., 2:]
        weights = anchors_cxcywh.new_tensor(self.weights)
        scale = torch.cat((size / weights[:2], (1 / weights[2:]).expand_as(size)), dim=-1)
        return scale, centre, 0.5 * size


class AnchorDecoder(nn.Module):
    """`BoxCoder.decode` against fixed anchors: what does not depend on the deltas is a constant.

    An exported graph keeps two multiplications, an exponential and a few additions.

    Args:
        coder: how boxes are coded.
        anchors_cxcywh: `[A, 4]` pixels.
        size_hw: height and width of the input; boxes are cut at its border.
    """

    scale: Tensor
    centre: Tensor
    half_size: Tensor
    limit: Tensor

    def __init__(
        self, coder: BoxCoder, anchors_cxcywh: Tensor, *, size_hw: tuple[int, int]
    ) -> None:
        super().__init__()
        height, width = size_hw
        limit = torch.tensor([width, height, width, height], dtype=torch.float32)
        names = ("scale", "centre", "half_size", "limit")
        for name, term in zip(names, (*coder.terms(anchors_cxcywh), limit), strict=True):
            self.register_buffer(name, term.clone(), persistent=False)

    def forward(self, deltas: Tensor) -> Tensor:
        """Boxes `xyxy [B, A, 4]` in input pixels, within the input, from `deltas [B, A, 4]`."""
        boxes = _decode(deltas, self.scale, self.centre, self.half_size)
        return torch.minimum(boxes.clamp(min=0), self.limit)


def _decode(deltas: Tensor, scale: Tensor, centre: Tensor, half_size: Tensor) -> Tensor:
    scaled = deltas * scale
    middle = scaled[..., :2] + centre
    half = torch.exp(scaled[..., 2:].clamp(max=MAX_LOG_SCALE)) * half_size
    return torch.cat((middle - half, middle + half), dim=-1)
