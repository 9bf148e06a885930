"""The box loss of each anchor, from deltas: smooth L1 of them, or the overlap of the boxes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, cast, get_args

from torch import Tensor, nn

from flyweight.core.errors import InputError
from flyweight.models.losses.box_iou_loss import BoxLossKind, iou_loss
from flyweight.models.losses.smooth_l1 import smooth_l1_terms
from flyweight.models.ops.coder import BoxCoder

# B images, A anchors

DeltaLoss = Literal["smooth_l1", "iou", "giou", "diou", "ciou"]
# From deltas and those wanted, [B, A, 4] both, to the loss of each anchor, [B, A].
BoxTerms = Callable[[Tensor, Tensor], Tensor]


class OverlapTerms(nn.Module):
    """One minus an overlap of the decoded boxes (IoU, GIoU, DIoU or CIoU), `[B, A]`.

    Unlike a distance of deltas it is what AP counts, and the same for large and small objects.

    Args:
        anchors_cxcywh: `[A, 4]` pixels.
    """

    anchors_cxcywh: Tensor

    def __init__(self, anchors_cxcywh: Tensor, *, coder: BoxCoder, kind: BoxLossKind) -> None:
        super().__init__()
        self.coder = coder
        self.kind = kind
        self.register_buffer("anchors_cxcywh", anchors_cxcywh.clone(), persistent=False)

    def forward(self, deltas: Tensor, target_deltas: Tensor) -> Tensor:
        """From `deltas [B, A, 4]` and those wanted."""
        boxes, targets = (
            self.coder.decode(each.float(), self.anchors_cxcywh) for each in (deltas, target_deltas)
        )
        return iou_loss(boxes, targets, kind=self.kind)


def make_box_terms(
    kind: str, *, anchors_cxcywh: Tensor, coder: BoxCoder, beta: float = 1.0
) -> BoxTerms:
    """The box loss called `kind`; `beta` is smooth L1's.

    Raises:
        InputError: no such kind.
    """
    if kind not in get_args(DeltaLoss):
        raise InputError(
            f"unknown box loss {kind!r}",
            where="box_loss",
            fix=f"choose {', '.join(get_args(DeltaLoss))}",
        )
    if kind == "smooth_l1":
        return partial(smooth_l1_terms, beta=beta)
    return OverlapTerms(anchors_cxcywh, coder=coder, kind=cast(BoxLossKind, kind))
