"""Which of the candidates enter the loss: at random in fixed shares, or the hardest."""

from __future__ import annotations

import torch
from torch import Tensor

# B images, A anchors or proposals


@torch.no_grad()
def sample_balanced(
    positive: Tensor,
    negative: Tensor,
    *,
    count: int,
    positive_share: float,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Random positives and negatives of each image (Faster R-CNN, Ren et al. 2015, section 3.1.3).

    Positives make up at most `positive_share` of `count`; negatives fill up what they leave. With
    too few of both, an image gives fewer than `count`.

    Args:
        positive: bool `[B, A]`.
        negative: bool `[B, A]`; what is in neither is ignored.
        count: of an image; 256 anchors for an RPN, 512 proposals for the second stage.
        positive_share: 0.5 and 0.25.
        generator: of the random numbers, on the tensors' device; None for the global one.

    Returns:
        bool `[B, A]` and `[B, A]`, subsets of `positive` and of `negative`.
    """
    # A random key for each, the highest win: one draw for the batch, and no image is waited for.
    keys = torch.rand(positive.shape, generator=generator, device=positive.device)
    chosen = hardest(keys, positive, count=int(count * positive_share))
    room = count - chosen.sum(1, keepdim=True)
    return chosen, _highest(keys, negative, most=count, count=room)


@torch.no_grad()
def hardest(loss: Tensor, candidates: Tensor, *, count: int) -> Tensor:
    """Online hard example mining: in each image the candidates of highest loss (Shrivastava et al.
    2016, section 4.1).

    Args:
        loss: `[B, A]`.
        candidates: bool `[B, A]`.
        count: chosen of an image, or all candidates where there are fewer.

    Returns:
        bool `[B, A]`, a subset of `candidates`.
    """
    return _highest(loss, candidates, most=count)


def _highest(keys: Tensor, candidates: Tensor, *, most: int, count: Tensor | None = None) -> Tensor:
    """bool `[B, A]`: the `most` candidates of highest key, in each image only `count [B, 1]`."""
    most = min(most, keys.shape[1])
    order = keys.masked_fill(~candidates, -torch.inf).topk(most, dim=1).indices
    wanted = torch.ones_like(order, dtype=torch.bool)
    if count is not None:
        wanted = torch.arange(most, device=keys.device) < count
    chosen = torch.zeros_like(candidates).scatter_(1, order, wanted)
    return chosen & candidates
